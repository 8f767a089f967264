// The connection to a session: pictures both ways, and the control protocol over the data channel.
// When it is lost it moves to the network that is there now, or else comes back by itself, to the same session if that is
// still there.
import { api, post } from './api.js'
import { connected, gathered, restart } from './restart.js'

const LOST_MS = 1000, MOVE_MS = 8000, TRIES_MS = [0, 500, 1000, 2000, 4000, 8000, ...Array(20).fill(15000)]  // five minutes
const SESSION = 'comfystream-session'

export class Link {
  // on: {opened, event, track, moving, moved, retrying, ended}
  constructor(on) {
    this.on = on
    this.pc = this.channel = this.session = null
    this.revision = 0
    this.isWanted = false
    this.waiting = new Map()
    this.nextId = 1
  }

  get isOpen() { return this.channel?.readyState === 'open' }

  // stream: of this browser, or null; session: one to join.
  async open(stream, { hasSound, session } = {}) {
    this.#hangUp()  // of a connection that was opened with other tracks
    Object.assign(this, { isWanted: true, stream, hasSound })
    if (session) sessionStorage.setItem(SESSION, session)
    try { await this.#dial() } catch (error) { this.close(); throw error }
  }

  // Another stream in the place of the one that is sent; nothing is negotiated anew.
  async send(stream) {
    this.stream = stream
    for (const { sender, receiver } of this.pc?.getTransceivers() || []) {
      await sender.replaceTrack(stream?.getTracks().find(track => track.kind === receiver.track.kind) || null)
    }
  }

  ask(message) {
    if (!this.isOpen) return Promise.reject(new Error('not connected'))
    const id = this.nextId++
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject })
      this.channel.send(JSON.stringify({ v: 1, id, ...message }))
    })
  }

  close() {
    this.isWanted = false
    this.#hangUp()
  }

  async #dial() {
    const { ice_servers: iceServers } = await api('/api/v1/config')
    const pc = new RTCPeerConnection({ iceServers })
    this.pc = pc
    const channel = this.channel = pc.createDataChannel('comfystream')
    channel.onmessage = event => this.#heard(JSON.parse(event.data))
    channel.onopen = () => this.on.opened()
    channel.onclose = () => { if (channel === this.channel) this.again() }
    for (const kind of this.hasSound ? ['video', 'audio'] : ['video']) {
      const track = this.stream?.getTracks().find(one => one.kind === kind)
      pc.addTransceiver(track || kind, { direction: 'sendrecv', streams: this.stream ? [this.stream] : [] })
    }
    pc.ontrack = event => this.on.track(event.track)
    pc.onconnectionstatechange = () => this.#watch(pc)
    await pc.setLocalDescription()
    await gathered(pc)
    const answer = await offer(pc.localDescription)
    if (pc !== this.pc) return
    this.session = answer.session
    this.resource = answer.resource
    await pc.setRemoteDescription({ sdp: answer.sdp, type: answer.type })
  }

  #watch(pc) {
    if (pc !== this.pc) return
    clearTimeout(this.lost)
    const wait = { disconnected: LOST_MS, failed: 0 }[pc.connectionState]
    if (wait !== undefined) this.lost = setTimeout(() => pc === this.pc && this.move(), wait)
  }

  // The network has changed, or was away.
  async move() {
    const pc = this.pc
    if (!pc || this.isMoving) return
    this.isMoving = true
    this.on.moving()
    const done = await restart(pc, this.resource).then(() => connected(pc, MOVE_MS), () => false)
    this.isMoving = false
    if (pc !== this.pc) return
    if (done) this.on.moved()
    else this.again()
  }

  async again() {
    if (!this.isWanted || this.isTrying) return
    this.isTrying = true
    let why = null
    for (const [index, wait] of TRIES_MS.entries()) {
      this.#hangUp()
      this.on.retrying(index + 1)
      await new Promise(done => setTimeout(done, wait))
      if (!this.isWanted) break
      why = await this.#dial().then(() => null, error => error)
      if (!why || !this.isWanted || [401, 403].includes(why.status)) break
    }
    this.isTrying = false
    if (why && this.isWanted) { this.close(); this.on.ended(why) }
  }

  #hangUp() {
    const pc = this.pc
    clearTimeout(this.lost)
    this.pc = this.channel = null
    pc?.close()
    for (const { reject } of this.waiting.values()) reject(new Error('not connected'))
    this.waiting.clear()
  }

  #heard(message) {
    if (message.type !== 'reply') { this.on.event(message); return }
    const { resolve, reject } = this.waiting.get(message.id) || {}
    this.waiting.delete(message.id)
    this.revision = message.revision
    if (message.ok) resolve?.(message)
    else reject?.(Object.assign(new Error(message.error.message), message.error))
  }
}

export const hasSession = () => Boolean(sessionStorage.getItem(SESSION))

async function offer({ sdp, type }) {
  const session = sessionStorage.getItem(SESSION)
  const send = one => post('/offer', { prompts: null, session: one, offer: { sdp, type } })
  const answer = await (session ? send(session).catch(error => {
    if (error.status !== 404 && error.status !== 410) throw error
    return send(undefined)
  }) : send(undefined))
  sessionStorage.setItem(SESSION, answer.session)
  return answer
}
