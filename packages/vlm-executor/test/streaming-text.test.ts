import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { StreamingText } from "../src/streaming-text.js";

/** A byte-level decoder: each id is a byte, as byte-fallback and byte-level tokenizers have it at worst. */
const decodeBytes = (ids: number[]) => new TextDecoder().decode(Uint8Array.from(ids));

function stream(decode: (ids: number[]) => string, ids: Iterable<number>) {
  const text = new StreamingText(decode);
  const pieces = [...ids].map((id) => text.push(id));
  return [...pieces, text.flush()];
}

describe("streaming text", () => {
  it("is the whole text, in whole characters, whatever the bytes are cut into", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", maxLength: 60 }), (text) => {
        // U+FFFD itself looks like a broken character and may come late, never lost.
        const pieces = stream(decodeBytes, new TextEncoder().encode(text));
        expect(pieces.join("")).toBe(new TextDecoder().decode(new TextEncoder().encode(text)));
        if (!text.includes("\uFFFD")) expect(pieces.join("|")).not.toContain("\uFFFD");
      }),
    );
  });

  it("waits for the last byte of a character", () => {
    expect(stream(decodeBytes, [0x41, 0xf0, 0x9f, 0x98, 0x80, 0x42])).toEqual([
      "A",
      "",
      "",
      "",
      "😀",
      "B",
      "",
    ]);
  });

  it("does not wait for ever for what cannot come", () => {
    const pieces = stream(decodeBytes, [0xff, 0xff, 0xff, 0xff, 0xff, 0x41]);
    expect(pieces[4]).toBe("\uFFFD");
    expect(pieces.join("")).toBe("\uFFFD".repeat(5) + "A");
  });

  it("gives what is left at the end", () => {
    expect(stream(decodeBytes, [0x41, 0xe2, 0x82])).toEqual(["A", "", "", "\uFFFD"]);
  });

  it("keeps the space that a decoder strips at the start of a text", () => {
    const words = ["▁Once", "▁upon", "▁a", "▁time"];
    const decode = (ids: number[]) =>
      ids
        .map((id) => words[id])
        .join("")
        .replaceAll("▁", " ")
        .replace(/^ /, "");
    expect(stream(decode, [0, 1, 2, 3, 0, 1, 2, 3, 0, 1])).toEqual([
      "Once",
      " upon",
      " a",
      " time",
      " Once",
      " upon",
      " a",
      " time",
      " Once",
      " upon",
      "",
    ]);
  });
});
