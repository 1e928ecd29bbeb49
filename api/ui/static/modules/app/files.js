/** Files of photos and of results: names, sizes, what can be accepted.  No DOM here. */

/** What the choice of files offers; the service looks at the content, whatever a name says. */
export const ACCEPT = "image/*,.heic,.heif,.avif,.tif,.tiff,.webp,.bmp";
// Browsers give no type to files that they do not know, such as HEIC on many systems.
const NOT_PHOTO = /^(text|video|audio|application|font)\//;

/** Return why a file cannot be a photo that the service takes, as an error of errors.js; null if it may be one. */
export function findFault(file, { maxBytes }) {
  if (NOT_PHOTO.test(file.type)) {
    return { errorType: "not_an_image", status: 400, message: `${file.name} is of the type ${file.type}.` };
  }
  if (file.size === 0) return { errorType: "not_an_image", status: 400, message: `${file.name} is empty.` };
  if (maxBytes && file.size > maxBytes) {
    const message = `${file.name} has ${formatBytes(file.size)}; this service takes ${formatBytes(maxBytes)} at most.`;
    return { errorType: "body_too_large", status: 413, message };
  }
  return null;
}

/** Return a number of bytes in words. */
export function formatBytes(bytes) {
  const units = ["bytes", "kB", "MB", "GB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** Return the name under which a file of a result is saved: that of the photo, then that of the format. */
export function nameDownload(photoName, formatFile) {
  return `${removeSuffix(photoName) || "photo"}.${formatFile}`;
}

/** Return the name of a cut-out: that of the photo, then what it shows. */
export function nameCutOut(photoName, label) {
  const part = label.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "");
  return `${removeSuffix(photoName) || "photo"}.${part || "cut-out"}.png`;
}

function removeSuffix(name) {
  const dot = name.lastIndexOf(".");
  return dot > 0 ? name.slice(0, dot) : name;
}
