// Where the picture comes from: a camera, or a drawn test picture.

export async function startSource(kind, withSound) {
  const stream = kind === 'camera' ? await camera(withSound) : pattern()
  if (kind !== 'camera' && withSound && navigator.mediaDevices) {
    const sound = await navigator.mediaDevices.getUserMedia({ audio: true })
    sound.getTracks().forEach(track => stream.stream.addTrack(track))
  }
  return stream
}

async function camera(withSound) {
  if (!navigator.mediaDevices) {
    throw Object.assign(new Error('this browser gives the camera only to pages from localhost or https'), { hint: 'choose the test picture' })
  }
  const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } }, audio: withSound })
  return { stream, stop: () => stream.getTracks().forEach(track => track.stop()) }
}

function pattern() {
  const canvas = document.createElement('canvas')
  canvas.width = 640; canvas.height = 480
  const paint = canvas.getContext('2d')
  let number = 0
  const draw = () => {
    const sky = paint.createLinearGradient(0, 0, 640, 480)
    sky.addColorStop(0, '#274b8f'); sky.addColorStop(1, '#e0884a')
    paint.fillStyle = sky
    paint.fillRect(0, 0, 640, 480)
    for (let i = 0; i < 5; i++) {
      const at = number / 40 + i * 1.3
      paint.fillStyle = `hsl(${(i * 70 + number) % 360} 75% 60%)`
      paint.beginPath()
      paint.arc(320 + 210 * Math.cos(at), 240 + 140 * Math.sin(at * 1.3), 34 + 8 * i, 0, 7)
      paint.fill()
    }
    paint.fillStyle = '#fff'
    paint.font = '600 34px system-ui, "DejaVu Sans", sans-serif'
    paint.fillText(String(number), 24, 456)
    number++
  }
  draw()
  const timer = setInterval(draw, 1000 / 30)
  const stream = canvas.captureStream(30)
  return { stream, stop: () => { clearInterval(timer); stream.getTracks().forEach(track => track.stop()) } }
}
