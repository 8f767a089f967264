// The figures that come once a second.

const sum = values => Object.values(values || {}).reduce((a, b) => a + b, 0)
const ms = value => value < 10 ? value.toFixed(1) : value.toFixed(0)
const bits = rate => rate < 1e6 ? `${(rate / 1e3).toFixed(0)} kbit/s` : `${(rate / 1e6).toFixed(1)} Mbit/s`
export const bytes = size => size < 1e6 ? `${(size / 1e3).toFixed(0)} kB` : size < 1e9 ? `${(size / 1e6).toFixed(1)} MB` : `${(size / 1e9).toFixed(2)} GB`

export function showFigures($, data, revision) {
  const tick = data.tick_ms?.video || data.tick_ms?.clock, whole = data.stages?.total
  const out = data.connection?.video_out || {}, gpu = data.gpu?.[0], dropped = sum(data.dropped)
  const why = Object.entries(data.dropped || {}).map(([reason, count]) => `${reason.replaceAll('_', ' ')}: ${count}`).join('\n')
  fill($('stats'), [
    ['in', `${data.fps_in.toFixed(0)} fps`],
    ['out', `${data.fps_out.toFixed(0)} fps`],
    ['compute', tick && `${ms(tick.p50)} ms`, tick && `95 of 100 within ${ms(tick.p95)} ms`],
    ['latency', whole ? `${ms(whole.p50)} ms` : data.latency_ms && `${ms(data.latency_ms)} ms`, whole ? `95 of 100 within ${ms(whole.p95)} ms` : 'through the server'],
    ['dropped', `${dropped}`, why],
    ['sent', out.width && bits(data.connection.bitrate), out.width && `${out.codec} ${out.width}×${out.height}`],
    ['picture', out.width && `${out.width}×${out.height}`, out.codec],
    ['GPU', gpu?.memory_used_bytes != null && `${gpu.utilisation ?? '?'} % · ${bytes(gpu.memory_used_bytes)}`, gpu?.name],
    ['viewers', data.viewers > 1 && `${data.viewers}`],
    ['revision', `${revision}`],
  ])
  $('more').hidden = !data.nodes?.length && !Object.keys(data.stages || {}).length
  if (!$('more').open) return
  rows($('stages'), Object.entries(data.stages || {}).map(([name, one]) => [name, ms(one.p50), ms(one.p95)]))
  $('nodes').closest('table').hidden = !data.nodes?.length
  rows($('nodes'), (data.nodes || []).map(one => [`${one.node} ${one.class_type}`, one.ms.toFixed(2), one.calls, one.place]))
}

export function clearFigures($) {
  $('stats').replaceChildren()
  $('more').hidden = true
}

function fill(list, figures) {
  list.replaceChildren(...figures.filter(([, value]) => value).map(([name, value, title]) => {
    const pair = document.createElement('div')
    const [term, said] = ['dt', 'dd'].map(kind => document.createElement(kind))
    term.textContent = name; said.textContent = value
    if (title) pair.title = title
    pair.append(term, said)
    return pair
  }))
}

function rows(body, lines) {
  body.replaceChildren(...lines.map(cells => {
    const line = document.createElement('tr')
    line.append(...cells.map(cell => Object.assign(document.createElement('td'), { textContent: cell })))
    return line
  }))
}
