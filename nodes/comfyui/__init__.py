"""What runs inside a ComfyUI: routes for the editor's extension, and the server process that they look after."""
