// Recordings, receivers and snapshots: what the server allows, and how each goes.
import { request } from './api.js'
import { card, errorCard, note } from './cards.js'
import { bytes } from './figures.js'

export function sinkPanel($, link, told) {
  const sinks = new Map()
  const isOver = sink => ['ended', 'failed'].includes(sink.state)
  const recording = () => [...sinks.values()].find(sink => sink.type === 'record' && !isOver(sink))
  let ending = null

  const add = (title, sink) => told(title, link.ask({ type: 'add_sink', sink }))
  const remove = sink => told('It was not ended', link.ask({ type: 'remove_sink', sink: sink.sink }))

  $('record').onclick = async () => {
    const running = recording()
    $('record').disabled = true
    if (running) { ending = running.sink; show(); await remove(running); ending = null } else await add('The recording did not begin', { type: 'record' })
    $('record').disabled = !link.isOpen
    show()
  }
  $('push-open').onclick = () => {
    $('push').hidden = !$('push').hidden
    $('push-open').setAttribute('aria-expanded', String(!$('push').hidden))
    if (!$('push').hidden) $('push-url').focus()
  }
  $('push').onsubmit = async event => {
    event.preventDefault()
    const sink = { type: 'push', url: $('push-url').value.trim(), kbps: Number($('push-kbps').value) }
    if (await add('Nothing is sent', sink)) { $('push-url').value = ''; $('push-open').click() }
  }
  $('snapshot').onclick = () => snapshot(link.session).catch(error => errorCard('There is no snapshot', error))

  function show() {
    const running = recording()
    $('record').classList.toggle('on', Boolean(running))
    $('record').setAttribute('aria-pressed', String(Boolean(running)))
    $('record-words').textContent = ending ? 'Finishing …' : running ? 'Stop recording' : 'Record'
    $('sinks').replaceChildren(...[...sinks.values()].filter(sink => !isOver(sink)).map(sink => line(sink, remove)))
  }

  return {
    allow({ recording: mayRecord, push_urls: urls = [] }) {
      $('record').hidden = !mayRecord
      $('push-open').hidden = !urls.length
      $('push-known').replaceChildren(...urls.map(url => new Option('', url)))
      $('push-url').placeholder = urls[0] || ''
    },
    enable(can) {
      for (const id of ['record', 'push-open', 'snapshot']) $(id).disabled = !can
      if (can) return
      $('push').hidden = true
      sinks.clear()
      show()
    },
    figures(list = []) {
      for (const sink of list) if (sinks.has(sink.sink) || !isOver(sink)) sinks.set(sink.sink, sink)
      show()
    },
    changed(data) {
      const before = sinks.get(data.sink)
      sinks.set(data.sink, { ...before, ...data })
      if (data.state === 'failed') failed(data)
      if (data.state === 'ended' && data.type === 'record') note('Recorded', data.target, 'it is in the folder of the server')
      show()
    },
  }
}

function failed({ type, target, reason }) {
  const words = reason.startsWith(target) ? reason : `${target}: ${reason}`
  if (type === 'record') card('The recording ended', words, 'what is in the file so far plays')
  else card('Nothing is sent any more', words, 'look at the receiver, then send again')
}

function line(sink, remove) {
  const item = document.createElement('li')
  item.className = sink.state
  const [name, how] = [document.createElement('b'), document.createElement('span')]
  name.textContent = sink.target
  how.textContent = [sink.state, sink.reason, sink.size ? bytes(sink.size) : '', sink.dropped ? `${sink.dropped} lost` : '',
    sink.left_out ? `${sink.left_out} of a kind that began later left out` : ''].filter(Boolean).join(' · ')
  const end = document.createElement('button')
  end.textContent = 'End'
  end.setAttribute('aria-label', `End ${sink.target}`)
  end.onclick = () => remove(sink)
  item.append(name, how, end)
  return item
}

async function snapshot(session) {
  const response = await request(`/api/v1/sessions/${encodeURIComponent(session)}/snapshot.jpg`)
  const link = document.createElement('a')
  link.href = URL.createObjectURL(await response.blob())
  link.download = `comfystream-${new Date().toISOString().slice(0, 19).replaceAll(':', '')}.jpg`
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 10000)
}
