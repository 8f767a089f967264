// Which workflow runs: one of the server's, or a file that is opened or dropped here.
import { api } from './api.js'
import { isPng, textsOf } from './png.js'

const OWN = '\nown', MOST_BYTES = 32 << 20

// choose(message, words): has the workflow set.
export function workflowPanel($, choose, failed) {
  const list = $('workflow')
  const nothing = new Option('none: the picture as it is', ''), own = new Option('a workflow of yours', OWN)
  let known = []
  nothing.disabled = own.disabled = own.hidden = true

  list.onchange = () => choose({ name: list.value })
  $('workflow-file').onchange = event => { open(event.target.files[0]); event.target.value = '' }
  addEventListener('dragover', event => { if (event.dataTransfer?.types.includes('Files')) { event.preventDefault(); document.body.classList.add('dropping') } })
  addEventListener('dragleave', event => { if (!event.relatedTarget) document.body.classList.remove('dropping') })
  addEventListener('drop', event => {
    document.body.classList.remove('dropping')
    const [file] = event.dataTransfer?.files || []
    if (!file) return
    event.preventDefault()
    open(file)
  })

  async function open(file) {
    if (!file) return
    try {
      await choose({ workflow: await readWorkflow(file) }, file.name)
    } catch (error) {
      failed(`${file.name} was not loaded`, error)
    }
  }

  function about() {
    const one = known.find(one => one.name === list.value)
    const needed = one?.models.length ? ` Needs models: ${one.models.join(', ')}.` : ''
    $('about').textContent = one ? one.description + needed : ''
  }

  return {
    async load() {
      known = await api('/api/v1/workflows')
      const needy = document.createElement('optgroup')
      needy.label = 'Need models'
      const option = one => new Option(one.title, one.name)
      needy.append(...known.filter(one => one.models.length).map(option))
      list.replaceChildren(nothing, own, ...known.filter(one => !one.models.length).map(option), ...needy.children.length ? [needy] : [])
      this.show(this.preferred, false)
    },
    get preferred() { return ['edges', 'cartoon'].find(name => known.some(one => one.name === name)) || known[0]?.name },
    get title() { return list.selectedOptions[0]?.text || '' },
    get chosen() { return list.value === OWN ? '' : list.value },
    show(name, hasWorkflow, words) {
      own.hidden = Boolean(name) || !hasWorkflow
      if (words) own.text = words
      list.value = name || (hasWorkflow ? OWN : '')
      about()
    },
  }
}

// The graph in a file: JSON in API or editor format, or in a PNG.
export async function readWorkflow(file) {
  if (file.size > MOST_BYTES) throw new Error('this is too big for a workflow')
  const data = new Uint8Array(await file.arrayBuffer())
  if (!isPng(data)) return parsed(new TextDecoder().decode(data))
  const texts = await textsOf(data)
  if (!texts.prompt && !texts.workflow) {
    throw Object.assign(new Error('there is no workflow in this picture'), { hint: 'programs that edit or send pictures often take it out; use the file that ComfyUI saved' })
  }
  try { return parsed(texts.prompt ?? '') } catch (error) { if (!texts.workflow) throw error }
  return parsed(texts.workflow)
}

function parsed(text) {
  let graph
  try { graph = JSON.parse(text) } catch { throw Object.assign(new Error('this is no JSON'), { hint: 'drop a workflow that ComfyUI saved, as JSON or as PNG' }) }
  if (typeof graph !== 'object' || graph === null || Array.isArray(graph)) throw new Error('this is no workflow')
  return graph
}
