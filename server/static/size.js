// What size the graph's pictures have.

export function sizePanel($, ask) {
  const sides = () => { $('sides').hidden = $('size').value === 'follow' }
  const change = () => {
    sides()
    const [width, height] = ['width', 'height'].map(id => Number($(id).value))
    ask({ type: 'set_size', mode: $('size').value, ...(width && { width }), ...(height && { height }) })
  }
  for (const id of ['size', 'width', 'height']) $(id).onchange = change
  return {
    enable(can) { for (const id of ['size', 'width', 'height']) $(id).disabled = !can },
    show(mode, width, height) {
      $('size').value = mode
      for (const [id, value] of [['width', width], ['height', height]]) if (document.activeElement !== $(id)) $(id).value = value
      sides()
    },
  }
}
