/** The program that draws the photo and its segments on the graphics card; GLSL ES 3.00, rules of scene.js. */

import { BRIGHT_OUTLINE, CHECK, DIM, FADED, FULL_OUTLINE, HALO, LIT, OUTLINE, OUTLINE_WHITE, ring } from "./scene.js";

const float = (value) => value.toFixed(6);
const RING = ring().map(([x, y]) => `vec2(${float(x)}, ${float(y)})`);

/** A rectangle of the picture at its place on the screen. */
export const VERTEX = `#version 300 es
in vec2 corner;
uniform vec4 area;       // of the picture: left, top, width, height
uniform vec3 view;       // scale, x, y in device pixels
uniform vec2 screen;     // in device pixels
out vec2 point;          // in pixels of the picture
void main() {
  point = area.xy + corner * area.zw;
  vec2 at = (point * view.x + view.yz) / screen;
  gl_Position = vec4(at.x * 2.0 - 1.0, 1.0 - at.y * 2.0, 0.0, 1.0);
}`;

export const FRAGMENT = `#version 300 es
precision highp float;
precision highp usampler2D;
in vec2 point;
out vec4 color;
uniform vec4 area;
uniform vec3 view;
uniform vec2 screen;
uniform vec2 picture;
uniform float ratio;
uniform sampler2D photo;       // what is inside of the area
uniform sampler2D overview;    // the whole photo, small, with its mipmaps
uniform float blurLevel;
uniform vec2 blurRadius;       // as a share of the photo's sides
uniform bool photoIsMissing;
uniform usampler2D leftLabels, rightLabels;
uniform sampler2D leftPalette, rightPalette;
uniform bvec2 hasLabels;
uniform float line;            // in device pixels
uniform float opacity;
uniform bool outlines;
uniform int background;        // 0 photo, 1 blur, 2 gray, 3 transparent, 4 dim
uniform uint highlighted;
uniform vec3 lightCheck, darkCheck, emptyColor;

const vec2 RING[8] = vec2[8](${RING.join(", ")});
const vec2 CORNERS[4] = vec2[4](vec2(-0.125, -0.375), vec2(0.375, -0.125), vec2(0.125, 0.375), vec2(-0.375, 0.125));
const vec3 LUMA = vec3(0.2126, 0.7152, 0.0722);

bool isRight;

uint labelAt(vec2 at) {
  vec2 share = at / picture;
  if (any(lessThan(share, vec2(0.0))) || any(greaterThanEqual(share, vec2(1.0)))) return 0u;
  if (isRight) return hasLabels.y ? texelFetch(rightLabels, ivec2(share * vec2(textureSize(rightLabels, 0))), 0).r : 0u;
  return hasLabels.x ? texelFetch(leftLabels, ivec2(share * vec2(textureSize(leftLabels, 0))), 0).r : 0u;
}

vec4 segment(uint id) {
  ivec2 at = ivec2(int(id & 255u), int(id >> 8));
  return isRight ? texelFetch(rightPalette, at, 0) : texelFetch(leftPalette, at, 0);
}

/** The id if its segment is shown or lit up, otherwise 0. */
uint shown(uint id) {
  return id != 0u && ((id == highlighted && !isRight) || segment(id).a > 0.0) ? id : 0u;
}

float strength(uint id) {
  float base = photoIsMissing ? 1.0 : opacity;
  if (highlighted == 0u || isRight) return base;
  return id == highlighted ? min(1.0, base + ${float(LIT)}) : base * ${float(FADED)};
}

vec3 blurred() {
  vec3 sum = vec3(0.0);
  vec2 centre = point / picture;
  for (int index = 0; index < 24; index++) {
    float distance = sqrt((float(index) + 0.5) / 24.0);
    float angle = float(index) * 2.399963;
    vec2 shift = vec2(cos(angle), sin(angle)) * distance * 2.0 * blurRadius;
    sum += textureLod(overview, clamp(centre + shift, vec2(0.0), vec2(1.0)), blurLevel).rgb;
  }
  return sum / 24.0;
}

/** The photo where no segment is. */
vec3 behind(vec3 own) {
  if (background == 1) return blurred();
  if (background == 2) return vec3(dot(own, LUMA));
  if (background == 3) {
    vec2 cell = floor(vec2(gl_FragCoord.x, screen.y - gl_FragCoord.y) / (${float(CHECK)} * ratio));
    return mod(cell.x + cell.y, 2.0) < 1.0 ? lightCheck : darkCheck;
  }
  if (background == 4) return mix(vec3(0.0), mix(vec3(dot(own, LUMA)), own, 0.5), ${float(DIM)});
  return own;
}

/** Share of the ring around the pixel that lies in another segment, and whether it touches the one that is lit up. */
vec2 edge(uint id, float radius) {
  float count = 0.0;
  float lit = 0.0;
  for (int index = 0; index < 8; index++) {
    uint raw = labelAt(point + RING[index] * radius / view.x);
    if (raw == id) continue;
    uint other = shown(raw);
    if (other == id) continue;
    count += 1.0;
    if (other == highlighted && highlighted != 0u && !isRight) lit = 1.0;
  }
  return vec2(min(count / ${float(FULL_OUTLINE)}, 1.0), lit);
}

/** @param near the edge at the width of outlines, as edge() gives it */
vec3 addOutline(vec3 base, uint id, float near) {
  bool isLit = id == highlighted && highlighted != 0u && !isRight;
  if (!outlines && highlighted == 0u) return base;
  vec2 wide = highlighted != 0u && !isRight ? edge(id, ${float(BRIGHT_OUTLINE)} * ratio) : vec2(0.0);
  if (isLit) return mix(base, vec3(1.0), wide.x);
  if (wide.y > 0.0) return mix(base, vec3(0.0), wide.x * ${float(HALO)});
  if (!outlines) return base;
  if (id == 0u) return mix(base, vec3(0.0), near * ${float(HALO)});
  return mix(base, mix(segment(id).rgb, vec3(1.0), ${float(OUTLINE_WHITE)}), near);
}

void main() {
  isRight = gl_FragCoord.x >= line;
  vec3 own = photoIsMissing ? emptyColor : texture(photo, (point - area.xy) / area.zw).rgb;
  uint centre = shown(labelAt(point));
  float near = edge(centre, ${float(OUTLINE)} * ratio).x;
  // Far from an edge one sample is as good as four.
  int samples = near > 0.0 ? 4 : 1;
  vec3 sum = vec3(0.0);
  vec3 around = vec3(-1.0);
  for (int index = 0; index < samples; index++) {
    uint id = labelAt(point + (samples > 1 ? CORNERS[index] / view.x : vec2(0.0)));
    vec4 drawn = segment(id);
    if (id != 0u && drawn.a > 0.0) {
      sum += mix(own, drawn.rgb, strength(id));
    } else {
      if (around.r < 0.0) around = isRight ? (hasLabels.y ? behind(own) : own) : (hasLabels.x ? behind(own) : own);
      sum += around;
    }
  }
  color = vec4(addOutline(sum / float(samples), centre, near), 1.0);
}`;
