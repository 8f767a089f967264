// The same connection over another network: new ICE credentials by PATCH (RFC 9725 4.3.3). Keys, pictures and data
// channels go on, where a new connection would begin with all of it anew.
import { request } from './api.js'

const GATHER_MS = 3000
const HEADERS = { 'Content-Type': 'application/trickle-ice-sdpfrag', 'If-Match': '*' }

export const gathered = pc => new Promise(done => {
  if (pc.iceGatheringState === 'complete') return done()
  pc.addEventListener('icegatheringstatechange', () => pc.iceGatheringState === 'complete' && done())
  setTimeout(done, GATHER_MS)
})

export async function restart(pc, resource) {
  const before = pc.remoteDescription.sdp
  pc.restartIce()
  await pc.setLocalDescription()
  await gathered(pc)
  const answer = await request(resource, { method: 'PATCH', headers: HEADERS, body: fragment(pc.localDescription.sdp) })
  await pc.setRemoteDescription({ type: 'answer', sdp: withIce(before, await answer.text()) })
}

// Whether it is connected, now or before the time is over.
export const connected = (pc, ms) => new Promise(done => {
  const look = () => {
    if (pc.connectionState === 'connected') done(true)
    if (pc.connectionState === 'closed') done(false)
  }
  pc.addEventListener('connectionstatechange', look)
  setTimeout(() => done(pc.connectionState === 'connected'), ms)
  look()
})

const ICE = /^a=(ice-ufrag|ice-pwd|candidate|end-of-candidates)/

// What a description says of ICE: of its first section, which the others are bundled with.
function fragment(sdp) {
  const lines = sdp.split(/\r?\n/)
  const [first, second = lines.length] = lines.flatMap((line, at) => line.startsWith('m=') ? [at] : [])
  const section = lines.slice(first, second)
  const kept = section.filter(line => line.startsWith('a=mid:') || ICE.test(line))
  return [...lines.filter(line => line.startsWith('a=group:BUNDLE')), section[0], ...kept, ''].join('\r\n')
}

// The answer of before, with the other end's new credentials and addresses.
function withIce(sdp, text) {
  const ice = text.split(/\r?\n/).filter(line => ICE.test(line))
  const lines = sdp.split(/\r?\n/).filter(line => !ICE.test(line) || line.startsWith('a=ice-ufrag'))
  return lines.flatMap(line => line.startsWith('a=ice-ufrag') ? ice : [line]).join('\r\n')
}
