// Pictures of this browser: a camera, the screen, or a drawn test picture.

export const isOurs = kind => kind === 'camera' || kind === 'screen'

export async function startSource(kind, withSound) {
  const stream = kind === 'camera' ? await camera(withSound) : kind === 'screen' ? await screen(withSound) : drawn()
  return { ...stream, kind }
}

function devices(what) {
  if (navigator.mediaDevices?.[what]) return navigator.mediaDevices
  const why = isSecureContext ? 'this browser cannot do that' : 'browsers give camera and screen only to pages from localhost or https'
  throw Object.assign(new Error(why), { hint: isSecureContext ? 'choose another source' : 'start the server with --tls self-signed, or choose another source' })
}

const held = stream => ({ stream, stop: () => stream.getTracks().forEach(track => track.stop()) })

async function camera(withSound) {
  const video = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } }
  return held(await devices('getUserMedia').getUserMedia({ video, audio: withSound }))
}

async function screen(withSound) {
  const video = { width: { max: 1280 }, height: { max: 720 }, frameRate: { max: 30 } }
  return held(await devices('getDisplayMedia').getDisplayMedia({ video, audio: withSound }))
}

function drawn() {
  const canvas = document.createElement('canvas')
  canvas.width = 640; canvas.height = 480
  const paint = canvas.getContext('2d')
  let number = 0
  const draw = () => {
    const sky = paint.createLinearGradient(0, 0, 640, 480)
    sky.addColorStop(0, '#274b8f'); sky.addColorStop(1, '#e0884a')
    paint.fillStyle = sky
    paint.fillRect(0, 0, 640, 480)
    paint.fillStyle = '#fff'
    paint.beginPath()
    paint.arc(320 + 210 * Math.cos(number / 40), 240 + 140 * Math.sin(number / 31), 50, 0, 7)
    paint.fill()
    number++
  }
  draw()
  const timer = setInterval(draw, 1000 / 30)
  const { stream, stop } = held(canvas.captureStream(30))
  return { stream, stop: () => { clearInterval(timer); stop() } }
}
