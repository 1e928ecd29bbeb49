/** The sample photos; samples/README.md says where they come from. */

export const SAMPLES = [
  { file: "photographer.jpg", title: "A photographer" },
  { file: "astronaut.jpg", title: "An astronaut" },
  { file: "cat.jpg", title: "A cat" },
  { file: "coffee.jpg", title: "A cup of coffee" },
];
