/** Answers each photo with its small picture, or with the name of the error. */

import { drawSquare } from "./thumbnail-drawing.js";

self.onmessage = ({ data: file }) =>
  drawSquare(file).then(
    (drawn) => self.postMessage({ drawn }),
    (error) => self.postMessage({ fault: error.name }),
  );
