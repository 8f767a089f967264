// The values of the workflow: while a knob is turned only the newest value of each is sent, one message at a time.
import { buildParameters, showValues } from './parameters.js'

export function valuePanel(place, link, told, touched) {
  const changing = new Map()
  let sending = false

  async function changed(parameter, value) {
    touched()
    changing.set(`${parameter.node}\n${parameter.input}`, { node: parameter.node, input: parameter.input, value })
    if (sending) return
    sending = true
    while (changing.size) {
      const patches = [...changing.values()]
      changing.clear()
      await told('The value was not taken', link.ask({ type: 'patch', patches }))
    }
    sending = false
  }

  return {
    get isBusy() { return sending || changing.size > 0 },
    show(parameters) { if (!showValues(place, parameters)) buildParameters(place, parameters, changed) },
    enable(can) { for (const group of place.children) group.disabled = !can },
    clear() { place.replaceChildren(); place.shape = null },
    // The node that fails is marked, for a while.
    mark(node) {
      const group = [...place.querySelectorAll('fieldset')].find(one => one.dataset.group === node)
      if (!group) return
      group.classList.add('bad')
      clearTimeout(group.timer)
      group.timer = setTimeout(() => group.classList.remove('bad'), 5000)
    },
  }
}
