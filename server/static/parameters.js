// Typed controls for the values of a workflow.

const MOST_STEPS = 5000
const keyOf = parameter => `${parameter.node}\n${parameter.input}`

export function buildParameters(place, parameters, changed) {
  place.replaceChildren()
  place.shape = shapeOf(parameters)
  const groups = new Map()
  for (const parameter of parameters) {
    if (!groups.has(parameter.node)) groups.set(parameter.node, group(place, parameter))
    groups.get(parameter.node).append(row(parameter, value => changed(parameter, value)))
  }
}

// New values into the controls that are there; false when they are for other parameters. What is held stays.
export function showValues(place, parameters) {
  if (place.shape !== shapeOf(parameters)) return false
  const values = new Map(parameters.map(parameter => [keyOf(parameter), parameter.value]))
  for (const element of place.querySelectorAll('.parameter')) {
    if (!element.contains(document.activeElement) || !element.matches(':active')) element.show(values.get(element.dataset.key))
  }
  return true
}

const shapeOf = parameters => JSON.stringify(parameters.map(({ value, ...rest }) => rest))

function group(place, parameter) {
  const element = document.createElement('fieldset')
  element.dataset.group = parameter.node
  const legend = document.createElement('legend')
  legend.textContent = parameter.title
  legend.title = `node ${parameter.node}: ${parameter.class_type}`
  element.append(legend)
  place.append(element)
  return element
}

function row(parameter, changed) {
  const element = document.createElement('label')
  element.className = 'parameter'
  element.dataset.key = keyOf(parameter)
  element.dataset.node = parameter.node
  element.dataset.input = parameter.input
  element.title = parameter.tooltip
  const label = document.createElement('span')
  label.textContent = parameter.label
  const controls = (parameter.is_color ? color : CONTROLS[parameter.kind])(parameter, changed)
  element.append(label, ...controls.elements)
  element.show = controls.show
  controls.show(parameter.value)
  return element
}

function number(parameter, changed) {
  const parse = text => parameter.kind === 'int' ? Math.round(Number(text)) : Number(text)
  const step = parameter.step || (parameter.kind === 'int' ? 1 : 0.01)
  const field = input('number')
  const slider = input('range')
  for (const element of [slider, field]) {
    element.step = step
    if (parameter.minimum !== null) element.min = parameter.minimum
    if (parameter.maximum !== null) element.max = parameter.maximum
    element.setAttribute('aria-label', `${parameter.title}: ${parameter.label}`)
  }
  const has = parameter.minimum !== null && parameter.maximum !== null && (parameter.maximum - parameter.minimum) / step <= MOST_STEPS
  slider.oninput = () => { field.value = slider.value; changed(parse(slider.value)) }
  field.step = 'any'
  let shown
  field.onchange = () => {
    if (field.value === '') return show(shown)
    slider.value = field.value
    changed(parse(field.value))
  }
  const show = value => {
    shown = value
    field.value = slider.value = parameter.kind === 'float' ? Number(value.toFixed(6)) : value
  }
  return { elements: has ? [slider, field] : [field], show }
}

const hex = value => typeof value === 'number' ? `#${value.toString(16).padStart(6, '0')}` : value

function color(parameter, changed) {
  const field = input('color')
  field.oninput = () => changed(parameter.kind === 'int' ? parseInt(field.value.slice(1), 16) : field.value)
  return { elements: [field], show: value => { field.value = hex(value) } }
}

function boolean(parameter, changed) {
  const box = input('checkbox')
  box.onchange = () => changed(box.checked)
  return { elements: [box], show: value => { box.checked = value } }
}

function combo(parameter, changed) {
  const select = document.createElement('select')
  const options = parameter.options.includes(parameter.value) ? parameter.options : [parameter.value, ...parameter.options]
  select.append(...options.map((option, index) => new Option(String(option), String(index))))
  select.onchange = () => changed(options[Number(select.value)])
  return { elements: [select], show: value => { select.value = String(options.indexOf(value)) } }
}

function text(parameter, changed) {
  const field = parameter.is_multiline ? document.createElement('textarea') : input('text')
  let timer
  field.oninput = () => { clearTimeout(timer); timer = setTimeout(() => changed(field.value), 250) }
  return { elements: [field], show: value => { if (document.activeElement !== field) field.value = value } }
}

function input(type) {
  const element = document.createElement('input')
  element.type = type
  return element
}

const CONTROLS = { int: number, float: number, boolean, combo, text }
