"""Whether ComfyUI reads the command line; never, here."""

args_parsing = False


def enable_args_parsing(enable: bool = True) -> None:
    """Nothing to do: there is no command line of ComfyUI's."""
