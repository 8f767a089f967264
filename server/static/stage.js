// What the header and the picture's place say of the stream: its state, what it waits for, how far a load is.

const PHASES = { check: 'checking', compile: 'compiling', load: 'loading', warm: 'warming up' }
const WAITING = {
  connecting: 'Connecting …',
  reconnecting: 'Connecting again …',
  idle: 'Waiting for the first picture …',
  preparing: 'The workflow is being loaded …',
  running: 'Waiting for the first picture …',
  paused: 'Paused.',
  failed: 'The engine gave up. Choose the workflow again, or another one.',
}

export function stagePanel($) {
  const begin = [...$('empty-words').childNodes]
  const bar = $('progress')
  let load = ''  // how far a load is, while there is one

  function show(state, extra = load, isStale = false) {
    $('state').textContent = extra ? `${state} · ${extra}` : state
    $('state').className = `state ${isStale ? 'reconnecting' : state}`
    $('frame').classList.toggle('stale', isStale)
    $('empty-words').replaceChildren(...WAITING[state] ? [WAITING[state]] : begin)
  }

  return {
    show,
    // How far a revision is, or what a node is at: `name` of its workflow.
    progress(state, name, { phase, done, total, value, maximum, message }) {
      const words = `${PHASES[phase] || phase} ${name}`.trim()
      load = message || (total > 1 ? `${words}, ${done} of ${total} nodes` : words)
      show(state)
      const share = total > 1 || maximum ? (done + (maximum ? value / maximum : 0)) / Math.max(1, total) : null
      bar.hidden = $('cancel').hidden = false
      if (share === null) bar.removeAttribute('value')
      else bar.value = share
    },
    done() {
      load = ''
      bar.hidden = $('cancel').hidden = true
    },
  }
}
