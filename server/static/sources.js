// Where a session's pictures come from: this browser, or something that the server reads.
import { api } from './api.js'
import { isOurs, startSource } from './source.js'

const WORDS = { opening: 'is being opened', reconnecting: 'was lost and is tried again', ended: 'is over; its last picture stays', failed: 'broke off' }

// failed(title, error) tells a person.
export function sourcePanel($, link, failed) {
  const panel = { mine: null }
  const kind = () => $('source').value
  const rows = () => { $('file-row').hidden = kind() !== 'file'; $('url-row').hidden = kind() !== 'url'; $('sound').disabled = ['none', 'url'].includes(kind()) }
  let said = 'viewer'  // what the session says is chosen

  function letGo() {
    panel.mine?.stop()
    panel.mine = null
    $('input').srcObject = null
    $('input').className = ''
  }

  async function take() {
    const mine = await startSource(kind(), $('sound').checked)
    letGo()
    panel.mine = mine
    $('input').srcObject = mine.stream
    $('input').className = 'on'
    mine.stream.getVideoTracks()[0].onended = () => { if (panel.mine === mine) { letGo(); $('source').value = 'watch'; rows() } }
    return mine.stream
  }

  const choice = () => ({
    pattern: () => ({ type: 'pattern', width: 640, height: 480, has_sound: $('sound').checked }),
    file: () => ({ type: 'file', path: $('file').value, is_looped: $('looped').checked, has_sound: $('sound').checked }),
    url: () => ({ type: 'url', url: $('url').value.trim() }),
    none: () => ({ type: 'none' }),
  }[kind()]?.())

  // Has the session read what is chosen here; true when it does.
  async function apply() {
    const wanted = choice()
    if (kind() === 'url' && !wanted.url) { $('url').focus(); return }
    try {
      if (isOurs(kind())) {
        if (panel.mine?.kind !== kind()) await link.send(await take())
        if (said !== 'viewer') await link.ask({ type: 'set_source', source: { type: 'viewer' } })
      } else if (wanted) {
        await link.ask({ type: 'set_source', source: wanted })
        letGo()
        await link.send(null)
      } else {
        letGo()
        await link.send(null)
      }
    } catch (error) {
      failed('The source was not changed', error)
    }
  }

  const changed = () => { rows(); if (link.isOpen && (kind() !== 'url' || $('url').value)) apply() }
  $('source').onchange = changed
  for (const id of ['file', 'looped']) $(id).onchange = () => { if (link.isOpen && kind() === 'file') apply() }
  $('url-row').onsubmit = event => { event.preventDefault(); if (link.isOpen) apply() }

  return Object.assign(panel, {
    apply,
    letGo,
    get kind() { return kind() },
    get isOurs() { return isOurs(kind()) },
    choose(value) { $('source').value = value; rows() },
    // What has to be there before a connection is made.
    start: async () => isOurs(kind()) ? (panel.mine?.kind === kind() ? panel.mine.stream : take()) : null,
    async load() {
      const { files, urls } = await api('/api/v1/sources')
      const has = value => [...$('source').options].find(option => option.value === value)
      has('file').hidden = !files.length
      has('url').hidden = !urls.length
      $('file').replaceChildren(...files.map(file => new Option(file.path, file.path)))
      $('url-known').replaceChildren(...urls.map(url => new Option('', url)))
      $('url').placeholder = urls[0] || ''
      rows()
    },
    told(source) {
      said = source.type
      const words = WORDS[source.state]
      $('source-state').textContent = words ? `${source.name} ${words}${source.reason ? `: ${source.reason}` : ''}` : ''
    },
  })
}
