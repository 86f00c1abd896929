"""Self-supervised methods, each a folder with the same face: args, model, loss, transform, and a `METHOD`.

masked    fill in what is hidden (MAE for transformers, SparK's way for convolutions)
distil    a student follows its own average over other crops (DINO)
vicreg    two looks at one place: alike, yet no channel idle or doubled (VICReg)
"""
