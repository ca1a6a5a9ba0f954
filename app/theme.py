"""glasschat's own two themes; Textual's are there as well, the ANSI ones among them."""

from __future__ import annotations

from textual.theme import Theme

DARK = Theme(
    name="glass-dark", primary="#7aa2f7", secondary="#7dcfff", accent="#bb9af7", success="#9ece6a", warning="#e0af68",
    error="#f7768e", foreground="#d5daf0", background="#16161e", surface="#1e1f2b", panel="#282a3a", dark=True,
)  # fmt: skip

LIGHT = Theme(
    name="glass-light", primary="#2e5fd0", secondary="#0f7b99", accent="#7a3fc4", success="#39731a", warning="#8f5a00",
    error="#c01c3c", foreground="#1f2335", background="#fbfbfd", surface="#eceef5", panel="#dfe2ee", dark=False,
)  # fmt: skip
