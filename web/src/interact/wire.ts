// The socket's messages: "ISO1" | uint32 n | n bytes JSON | payload, little-endian.

export interface Message { header: Record<string, unknown> & { type: string }; payload: Uint8Array }

const MAGIC = [0x49, 0x53, 0x4f, 0x31];

export function pack(header: object, payload: Uint8Array = new Uint8Array(0)): ArrayBuffer {
  const json = new TextEncoder().encode(JSON.stringify(header));
  const out = new Uint8Array(8 + json.length + payload.length);
  out.set(MAGIC);
  new DataView(out.buffer).setUint32(4, json.length, true);
  out.set(json, 8);
  out.set(payload, 8 + json.length);
  return out.buffer;
}

export function unpack(buffer: ArrayBuffer): Message {
  const bytes = new Uint8Array(buffer);
  if (bytes.length < 8 || MAGIC.some((value, at) => bytes[at] !== value)) throw new Error("a message does not begin as one");
  const length = new DataView(buffer).getUint32(4, true);
  if (8 + length > bytes.length) throw new Error("a message is shorter than it says");
  const header: unknown = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  if (typeof header !== "object" || header === null || typeof (header as { type?: unknown }).type !== "string") throw new Error("a message has no type");
  return { header: header as Message["header"], payload: bytes.subarray(8 + length) };
}
