// Asking the server by HTTP, with the token that the address brought.

const KEY = 'comfystream-token'
const given = new URLSearchParams(location.hash.slice(1)).get('token')
if (given) {
  sessionStorage.setItem(KEY, given)
  history.replaceState(null, '', location.pathname + location.search)  // it need not stand in the address bar, and in bookmarks
}

export const token = () => sessionStorage.getItem(KEY) || ''
export const keepToken = value => sessionStorage.setItem(KEY, value.trim())
export const withToken = path => token() ? `${path}#token=${encodeURIComponent(token())}` : path

export async function request(path, options = {}) {
  const headers = { ...(token() && { Authorization: `Bearer ${token()}` }), ...options.headers }
  const response = await fetch(path, { ...options, headers }).catch(() => {
    throw Object.assign(new Error('the server does not answer'), { hint: 'is it still running? The page tries again when you press Start', code: 'unreachable' })
  })
  if (response.ok) return response
  const body = await response.json().catch(() => null)
  throw Object.assign(new Error(body?.error?.message || response.statusText), body?.error, { status: response.status })
}

export const api = async (path, options) => (await request(path, options)).json()

export const post = (path, body) => api(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) })
