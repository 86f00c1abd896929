// The voxels of one image, fetched plane by plane: the middle first, then outwards from where the reader looks.

import type { Api, ImageItem, Vec3 } from "../api";
import { gridOf, type Grid } from "./grid";

export type Voxels = Int16Array | Uint16Array | Uint8Array | Float32Array;

const KINDS = { int16: Int16Array, uint16: Uint16Array, uint8: Uint8Array, float32: Float32Array } as const;
const CHUNK_BYTES = 4 << 20;
const WORKERS = 3;
/** Above this a volume is not held whole: planes come and go, and only the stored planes are shown. */
const WHOLE_BYTES = 1200e6;
const SPARSE_BYTES = 256e6;

export class Volume {
  readonly grid: Grid;
  readonly sparse: boolean;
  readonly planeVoxels: number;
  /** One byte a plane: 1 when it is here. */
  readonly loaded: Uint8Array;
  problem = "";
  private readonly data: Voxels | null;
  private readonly planes = new Map<number, Voxels>();
  private readonly requested: Uint8Array;
  private readonly listeners = new Set<() => void>();
  private readonly stop = new AbortController();
  private wanted = 0;
  private count = 0;
  private running = 0;
  private failures = 0;

  constructor(
    readonly image: ImageItem,
    private readonly api: Api,
  ) {
    this.grid = gridOf(image);
    const [z, y, x] = image.shape_zyx;
    this.planeVoxels = y * x * image.channels;
    this.sparse = image.too_large || this.bytes > WHOLE_BYTES;
    this.loaded = new Uint8Array(z);
    this.requested = new Uint8Array(z);
    this.data = this.sparse ? null : new KINDS[image.pixel.dtype](z * this.planeVoxels);
  }

  get bytes(): number {
    return this.image.shape_zyx[0] * this.planeVoxels * KINDS[this.image.pixel.dtype].BYTES_PER_ELEMENT;
  }

  get done(): number {
    return this.count / this.loaded.length;
  }

  /** All voxels in C order; null where the volume is too large to be held. Planes not `loaded` are zeros. */
  get voxels(): Voxels | null {
    return this.data;
  }

  /** One stored plane; null until it is here. */
  plane(z: number): Voxels | null {
    if (!this.loaded[z]) return null;
    return this.data ? (this.data.subarray(z * this.planeVoxels, (z + 1) * this.planeVoxels) as Voxels) : (this.planes.get(z) ?? null);
  }

  /** Value in the image's unit; null where the plane is not here or the place is outside. */
  value(index_zyx: Vec3, channel = 0): number | null {
    const [z, y, x] = index_zyx.map(Math.round);
    const [nz, ny, nx] = this.image.shape_zyx;
    if (z < 0 || y < 0 || x < 0 || z >= nz || y >= ny || x >= nx) return null;
    const plane = this.plane(z);
    if (!plane) return null;
    return plane[(y * nx + x) * this.image.channels + channel] * this.image.pixel.slope + this.image.pixel.intercept;
  }

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Fetch from this plane outwards; called again, the order follows. */
  prefer(z: number): void {
    this.wanted = Math.max(0, Math.min(this.loaded.length - 1, Math.round(z)));
    while (!this.stop.signal.aborted && this.running < (this.count === 0 ? 1 : WORKERS) && this.next()) continue;
  }

  dispose(): void {
    this.stop.abort();
    this.listeners.clear();
    this.planes.clear();
  }

  private next(): boolean {
    const run = this.choose();
    if (!run) return false;
    const [first, count] = run;
    this.requested.fill(1, first, first + count);
    this.running++;
    void this.fetch(first, count);
    return true;
  }

  /** The nearest missing plane and the run of missing planes from it, away from where the reader is. */
  private choose(): [number, number] | null {
    const total = this.loaded.length;
    const most = this.count === 0 ? 1 : Math.max(1, Math.floor(CHUNK_BYTES / (this.planeVoxels * KINDS[this.image.pixel.dtype].BYTES_PER_ELEMENT)));
    const reach = this.sparse ? 4 : total;
    for (let step = 0; step <= reach; step++) {
      for (const way of [1, -1]) {
        const z = this.wanted + way * step;
        if (z < 0 || z >= total || this.requested[z]) continue;
        const limit = this.sparse ? Math.min(most, reach + 1 - step) : most;
        let end = z;
        while (Math.abs(end + way - z) < limit && end + way >= 0 && end + way < total && !this.requested[end + way]) end += way;
        return [Math.min(z, end), Math.abs(end - z) + 1];
      }
    }
    return null;
  }

  private async fetch(first: number, count: number): Promise<void> {
    try {
      const buffer = await this.api.pixels(this.image.id, first, count, this.stop.signal);
      this.take(first, count, buffer);
      this.failures = 0;
      this.problem = "";
    } catch (error) {
      if (this.stop.signal.aborted) return;
      this.requested.fill(0, first, first + count);
      this.failures++;
      this.problem = error instanceof Error ? error.message : String(error);
      this.tell();
      // The server may be on its way back: ask again, ever more slowly.
      await new Promise((resolve) => setTimeout(resolve, Math.min(30000, 500 * 2 ** this.failures)));
    }
    this.running--;
    if (this.stop.signal.aborted) return;
    this.tell();
    this.prefer(this.wanted);
  }

  private take(first: number, count: number, buffer: ArrayBuffer): void {
    const Kind = KINDS[this.image.pixel.dtype];
    if (buffer.byteLength !== count * this.planeVoxels * Kind.BYTES_PER_ELEMENT) {
      throw new Error(`planes ${first} to ${first + count - 1} came with ${buffer.byteLength} bytes, which is not their size`);
    }
    const values = new Kind(buffer) as Voxels;
    if (this.data) this.data.set(values, first * this.planeVoxels);
    else for (let k = 0; k < count; k++) this.planes.set(first + k, values.slice(k * this.planeVoxels, (k + 1) * this.planeVoxels) as Voxels);
    this.loaded.fill(1, first, first + count);
    this.count += count;
    if (this.sparse) this.forget();
  }

  private forget(): void {
    const most = Math.max(12, Math.floor(SPARSE_BYTES / (this.planeVoxels * KINDS[this.image.pixel.dtype].BYTES_PER_ELEMENT)));
    if (this.planes.size <= most) return;
    const far = [...this.planes.keys()].sort((a, b) => Math.abs(b - this.wanted) - Math.abs(a - this.wanted));
    for (const z of far.slice(0, this.planes.size - most)) {
      this.planes.delete(z);
      this.loaded[z] = 0;
      this.requested[z] = 0;
      this.count--;
    }
  }

  private tell(): void {
    for (const listener of this.listeners) listener();
  }
}

/** Volumes that were looked at last, within a limit of memory. */
export class Volumes {
  private readonly held = new Map<string, Volume>();

  constructor(
    private readonly api: Api,
    private readonly mostBytes = 800e6,
  ) {}

  get(image: ImageItem): Volume {
    const known = this.held.get(image.id);
    const volume = known ?? new Volume(image, this.api);
    this.held.delete(image.id);
    this.held.set(image.id, volume);
    return volume;
  }

  /** Let go of the oldest that nobody shows. */
  trim(shown: Set<string>): void {
    let bytes = 0;
    for (const volume of this.held.values()) bytes += volume.sparse ? 0 : volume.bytes;
    for (const [id, volume] of [...this.held]) {
      if (bytes <= this.mostBytes) return;
      if (shown.has(id)) continue;
      volume.dispose();
      this.held.delete(id);
      bytes -= volume.sparse ? 0 : volume.bytes;
    }
  }

  dispose(): void {
    for (const volume of this.held.values()) volume.dispose();
    this.held.clear();
  }
}
