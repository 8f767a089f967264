// Named sets of values: choose one, keep the values of now, forget one.

export function presetRow($, ask, told, describe) {
  const list = $('preset'), form = $('naming'), name = $('preset-name')
  const done = reply => { if (reply) describe(reply.info) }
  const say = (title, message) => told(title, ask(message)).then(done)

  list.onchange = () => { if (list.value) say('The preset was not set', { type: 'apply_preset', name: list.value }).then(() => settle()) }
  $('keep').onclick = () => { form.hidden = !form.hidden; if (!form.hidden) { name.value = list.value; name.focus() } }
  form.onsubmit = event => {
    event.preventDefault()
    form.hidden = true
    const kept = name.value.trim()
    if (kept) say('The values were not kept', { type: 'save_preset', name: kept }).then(() => { list.value = kept; settle() })
  }
  form.onkeydown = event => { if (event.key === 'Escape') form.hidden = true }
  $('forget').onclick = () => say('The preset was not deleted', { type: 'delete_preset', name: list.value })

  const settle = () => { $('forget').disabled = list.selectedOptions[0]?.dataset.origin !== 'saved' }
  return (presets, hasWorkflow) => {
    const before = list.value
    list.replaceChildren(new Option(presets.some(one => one.fits) ? 'choose…' : 'none yet', ''), ...presets.map(option))
    list.value = presets.some(one => one.name === before && one.fits) ? before : ''
    list.disabled = !presets.some(one => one.fits)
    $('keep').disabled = !hasWorkflow
    if (!hasWorkflow) form.hidden = true
    settle()
  }
}

function option(preset) {
  const element = new Option(preset.name, preset.name)
  element.dataset.origin = preset.origin
  element.disabled = !preset.fits
  if (!preset.fits) element.title = 'made for another workflow'
  return element
}
