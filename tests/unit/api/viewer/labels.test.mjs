import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { decodeLabels, NotALabelMap } from "./modules/labels.js";

const names = readdirSync("label_maps").filter((name) => name.endsWith(".png")).map((name) => name.slice(0, -4));
const read = (name, suffix) => new Uint8Array(readFileSync(`label_maps/${name}.${suffix}`));
const bytesOf = ({ ids }) => Buffer.from(ids.buffer, ids.byteOffset, ids.byteLength);

test("there are label maps of both depths and with each filter", () => {
  assert.ok(names.length > 20);
});

for (const name of names) {
  test(`the ids of ${name} are those that were written`, async () => {
    const labels = await decodeLabels(read(name, "png"));

    assert.equal(`${labels.height}x${labels.width}`, name.split("-").at(-1));
    assert.equal(labels.ids instanceof Uint16Array, name.includes("uint16"));
    assert.ok(bytesOf(labels).equals(Buffer.from(read(name, "raw"))));
  });
}

test("a file, bytes and base64 give the same", async () => {
  const bytes = read("uint16-17x31", "png");

  const decoded = [bytes, new Blob([bytes]), Buffer.from(bytes).toString("base64")].map(decodeLabels);

  const [one, two, three] = await Promise.all(decoded);
  assert.deepEqual(one, two);
  assert.deepEqual(one, three);
});

test("a file that ends early is refused at each length", async () => {
  const bytes = read("uint8-17x31", "png");
  // The last 12 bytes say that nothing follows.
  for (let length = 0; length < bytes.length - 12; length++) {
    await assert.rejects(decodeLabels(bytes.slice(0, length)), NotALabelMap, `${length} bytes`);
  }
});

test("a changed byte is refused, or changes nothing that matters", async () => {
  const bytes = read("uint8-17x31", "png");
  const whole = await decodeLabels(bytes);
  for (let at = 0; at < bytes.length; at++) {
    const changed = Uint8Array.from(bytes);
    changed[at] ^= 0x15;
    const decoded = await decodeLabels(changed).catch((error) => {
      assert.ok(error instanceof NotALabelMap, `byte ${at}: ${error}`);
      return whole;
    });
    assert.deepEqual(decoded.ids, whole.ids, `byte ${at}`);
  }
});

test("what is no greyscale PNG is refused", async () => {
  const bytes = read("uint8-17x31", "png");
  const colored = Uint8Array.from(bytes);
  colored[25] = 2;
  for (const source of [colored, new Blob(["GIF89a"]), "?", ""]) await assert.rejects(decodeLabels(source), NotALabelMap);
});
