"""The pages of signing in: plain HTML without script, in light and dark, for keyboard and screen reader."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from urllib.parse import quote

__all__ = ["STYLE", "LoginPage", "account_page", "bounce_page", "login_page"]

STYLE = """
:root { color-scheme: light dark; --ground: #f5f6f8; --card: #ffffff; --text: #16202c; --quiet: #46535f;
  --line: #6b7885;  --act: #0b57a4; --act-text: #ffffff; --bad: #a3140f; --ring: #0b57a4; }
@media (prefers-color-scheme: dark) { :root { --ground: #12161b; --card: #1c232b; --text: #edf1f5; --quiet: #b7c2cc;
  --line: #8794a1; --act: #8fc3ff; --act-text: #0c1826; --bad: #ffb0a8; --ring: #8fc3ff; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1rem; background: var(--ground);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }
main { width: 100%; max-width: 24rem; background: var(--card); border: 1px solid var(--line); border-radius: 0.5rem;
  padding: 1.5rem; }
h1 { font-size: 1.375rem; margin: 0 0 1rem; }
h2 { font-size: 1.0625rem; margin: 1.5rem 0 0.5rem; }
p { margin: 0 0 1rem; color: var(--quiet); }
label { display: block; font-weight: 600; margin-bottom: 0.25rem; }
input { width: 100%; min-height: 2.75rem; padding: 0.5rem; margin-bottom: 1rem; font: inherit; color: inherit;
  background: var(--card); border: 1px solid var(--line); border-radius: 0.25rem; }
button, a.act { display: block; width: 100%; min-height: 2.75rem; padding: 0.625rem; font: inherit; font-weight: 600;
  text-align: center; text-decoration: none; color: var(--act-text); background: var(--act);
  border: 1px solid var(--act); border-radius: 0.25rem; cursor: pointer; margin-bottom: 0.75rem; }
button.second { color: var(--act); background: none; }
:focus-visible { outline: 3px solid var(--ring); outline-offset: 2px; }
.bad { color: var(--bad); font-weight: 600; }
footer { font-size: 0.875rem; color: var(--quiet); margin-top: 1rem; }
""".lstrip()
"""Contrast of every pair is above 4.5 to 1 for text and 3 to 1 for lines, in both schemes (WCAG 2.2 AA)."""
_NOTICE = "For research. Not a medical device. Every use is recorded."


@dataclass(frozen=True)
class LoginPage:
    """What the login page says.

    Args:
        csrf: Sent back with the form.
        target: Where to go afterwards.
        local: Whether there is a form for name and password.
        provider: Words of the identity provider's button; "" for none.
        trouble: What went wrong; "" for nothing.
        name: What was typed as name.
    """

    csrf: str
    target: str
    local: bool
    provider: str
    trouble: str = ""
    name: str = ""


def login_page(page: LoginPage) -> str:
    """Return the login page."""
    trouble = f'<p class="bad" role="alert" id="trouble">{escape(page.trouble)}</p>' if page.trouble else ""
    described = ' aria-describedby="trouble"' if page.trouble else ""
    form = provider = ""
    if page.local:
        form = f"""<form method="post" action="/login">
<input type="hidden" name="csrf" value="{escape(page.csrf)}">
<input type="hidden" name="next" value="{escape(page.target)}">
<label for="name">Name</label>
<input id="name" name="name" autocomplete="username" autocapitalize="none" spellcheck="false" maxlength="64" required
 value="{escape(page.name)}"{described}{"" if page.name else " autofocus"}>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" maxlength="256"
 required{described}{" autofocus" if page.name else ""}>
<button type="submit">Sign in</button>
</form>"""
    if page.provider:
        provider = (
            f'<a class="act" href="/login/provider?next={quote(page.target, safe="/")}">{escape(page.provider)}</a>'
        )
    return _page("Sign in", f"<h1>Sign in</h1>{trouble}{form}{provider}")


def account_page(name: str, role: str, csrf: str, target: str, *, local: bool, trouble: str = "") -> str:
    """Return the page of somebody who is signed in: go on, change the password, sign out."""
    told = f'<p class="bad" role="alert">{escape(trouble)}</p>' if trouble else ""
    hidden = f'<input type="hidden" name="csrf" value="{escape(csrf)}">'
    change = ""
    if local:
        change = f"""<h2>Change the password</h2><form method="post" action="/access/v1/password">{hidden}
<label for="current">Password until now</label>
<input id="current" name="current" type="password" autocomplete="current-password" maxlength="256" required>
<label for="new">New password, of several words</label>
<input id="new" name="new" type="password" autocomplete="new-password" maxlength="256" required>
<button class="second" type="submit">Change it</button></form>"""
    return _page(
        "Your account",
        f"""<h1>{escape(name)}</h1><p>Signed in, as {escape(role)}.</p>{told}
<a class="act" href="{escape(target)}">Go on</a>
<form method="post" action="/logout">{hidden}<button class="second" type="submit">Sign out</button></form>{change}""",
    )


def bounce_page(target: str) -> str:
    """Return a page that asks for an address again, from this server: cookies of ours come along then."""
    return _page("Isocenter", f'<p><a href="{escape(target)}">Go on</a></p>', refresh=target)


def _page(title: str, content: str, refresh: str = "") -> str:
    again = f'<meta http-equiv="refresh" content="0;url={escape(refresh)}">' if refresh else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} · Isocenter</title><link rel="stylesheet" href="/login/style.css">{again}</head>
<body><main>{content}<footer>{_NOTICE}</footer></main></body></html>
"""
