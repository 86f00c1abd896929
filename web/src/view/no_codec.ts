// NiiVue can read Zarr and brings three decoders for it (1.4 MB). The page gives it NIfTI alone, so they stay out.

export default class NoCodec {
  static fromConfig(): never {
    throw new Error("Zarr is not read here");
  }
}
