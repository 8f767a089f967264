// The workflow that ComfyUI writes into a picture: texts named "prompt" and "workflow" in chunks of a PNG.

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]
const latin = new TextDecoder('latin1'), utf8 = new TextDecoder()

export const isPng = data => SIGNATURE.every((byte, index) => data[index] === byte)

export async function textsOf(data) {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength), texts = {}
  for (let at = 8; at + 12 <= data.length;) {
    const length = view.getUint32(at), kind = latin.decode(data.subarray(at + 4, at + 8))
    const body = data.subarray(at + 8, at + 8 + length)
    const read = READERS[kind]
    const end = read ? body.indexOf(0) : -1
    if (end > 0) texts[latin.decode(body.subarray(0, end))] ??= await read(body.subarray(end + 1))
    at += 12 + length
  }
  return texts
}

async function inflated(data) {
  return new Uint8Array(await new Response(new Blob([data]).stream().pipeThrough(new DecompressionStream('deflate'))).arrayBuffer())
}

const READERS = {
  tEXt: async rest => latin.decode(rest),
  zTXt: async rest => latin.decode(await inflated(rest.subarray(1))),
  iTXt: async rest => {
    const language = rest.indexOf(0, 2), text = rest.subarray(rest.indexOf(0, language + 1) + 1)
    return utf8.decode(rest[0] ? await inflated(text) : text)
  },
}
