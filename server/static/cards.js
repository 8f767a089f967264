// What a person should know: errors and notes, newest first, each once.
import { keepToken, token } from './api.js'

const MOST = 4
const place = () => document.getElementById('cards')

export function card(title, text = '', hint = '', kind = '') {
  const key = title + text
  const same = [...place().children].find(one => one.dataset.key === key)
  if (same) { same.querySelector('small').textContent = hint; return same }
  const element = document.createElement('div')
  element.className = `card ${kind}`
  element.dataset.key = key
  const words = document.createElement('p')
  const [head, line, small] = ['b', 'span', 'small'].map(name => document.createElement(name))
  head.textContent = title; line.textContent = text; small.textContent = hint
  words.append(head, line, ' ', small)
  element.append(words, closing(element))
  place().prepend(element)
  while (place().children.length > MOST) place().lastChild.remove()
  return element
}

export const note = (title, text, hint) => card(title, text, hint, 'note')
export const clearCards = () => place().replaceChildren()
export const removeCard = title => [...place().children].filter(one => one.querySelector('b').textContent === title).forEach(one => one.remove())

// An error as the server tells it, or as the browser does.
export function errorCard(title, error) {
  if (error.status === 401) return tokenCard()
  const said = SAID[error.name] || error.message
  const isNamed = !error.node || said.includes(`node ${error.node}`)
  const name = error.field?.split('.').pop()
  const field = name && !said.includes(name) ? `${name}: ` : ''
  return card(isNamed ? title : `${title}: node ${error.node}`, field + said, error.hint || hintFor(error))
}

const SAID = {  // what browsers say in two words
  NotAllowedError: 'the browser does not let this page use it',
  NotFoundError: 'the browser finds no such device',
  NotReadableError: 'the device cannot be used',
}

function hintFor(error) {
  if (error.name === 'NotAllowedError') return 'allow it for this page beside the address, or choose another source'
  if (error.name === 'NotFoundError') return 'connect one, or choose another source'
  if (error.name === 'NotReadableError') return 'another program may be using it; close that, or choose another source'
  return ''
}

export function tokenCard() {
  const element = card(token() ? 'This token is not right' : 'This server asks for a token', '', 'the server printed it when it started')
  if (element.querySelector('form')) return element
  const form = document.createElement('form')
  const field = Object.assign(document.createElement('input'), { type: 'password', autocomplete: 'off', placeholder: 'Token', id: 'token' })
  field.setAttribute('aria-label', 'Token')
  const button = document.createElement('button')
  button.textContent = 'Use it'
  form.append(field, button)
  form.onsubmit = event => { event.preventDefault(); keepToken(field.value); location.reload() }
  element.querySelector('p').append(form)
  return element
}

function closing(element) {
  const close = document.createElement('button')
  close.textContent = '×'
  close.setAttribute('aria-label', 'Close')
  close.onclick = () => element.remove()
  return close
}
