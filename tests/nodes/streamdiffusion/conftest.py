from __future__ import annotations

import sys
from pathlib import Path

HERE = str(Path(__file__).parent)
if HERE not in sys.path:  # test files are imported by path; what they share is imported by name
    sys.path.append(HERE)
