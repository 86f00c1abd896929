"""The web page and its ASGI app: what people see. It receives ports, and never knows which model is behind them.

`ports` says what the verb `serve` hands in, `app.create_app` makes an ASGI app of it, `security` says who may speak to
it.
"""
