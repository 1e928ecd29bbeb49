/* What one version of @huggingface/inference makes of a list of calls.
 *
 * Takes the folder of that version as its argument, reads the calls as JSON from stdin and writes what came of each to
 * stdout, by name.
 */
"use strict";

const { readFileSync } = require("node:fs");

// Stdout is ours: some versions talk there.
console.log = console.info = console.error;

const library = require(process.argv[2]);
const Client = library.InferenceClient ?? library.HfInference;
const AT_ONCE = 4;
const HUB = "https://huggingface.co/api/models/";
const ROUTER = "https://router.huggingface.co";

const DRESSED = {
	blob: (bytes, type) => new Blob([bytes], { type }),
	arrayBuffer: (bytes) => bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength),
	bytes: (bytes) => new Uint8Array(bytes),
	base64: (bytes) => bytes.toString("base64"),
};

function argumentsOf(call) {
	const [dress, path, type] = call.image;
	return { ...call.arguments, [call.key]: DRESSED[dress](readFileSync(path), type) };
}

function counting(count) {
	return (url, init) => {
		count.requests += 1;
		return fetch(url, init);
	};
}

/* What somebody writes who keeps the model's name and sends the provider's traffic elsewhere. */
function rewriting(gateway) {
	return (url, init) => {
		if (url.startsWith(HUB)) {
			const id = url.slice(HUB.length).split("?")[0];
			const mapping = { "hf-inference": { providerId: id, status: "live", task: "image-segmentation" } };
			return Promise.resolve(Response.json({ inferenceProviderMapping: mapping }));
		}
		return fetch(url.replace(ROUTER, gateway), init);
	};
}

function optionsOf(call, count) {
	const options = { ...call.options };
	if (call.seconds) {
		options.signal = AbortSignal.timeout(1000 * call.seconds);
		options.fetch = counting(count);
	}
	if (call.router) {
		options.fetch = rewriting(call.router);
	}
	return options;
}

function clientOf(call) {
	if (call.via === "endpoint") {
		return new Client(call.token).endpoint(call.url);
	}
	if (call.via === "client with endpointUrl") {
		return new Client(call.token, { endpointUrl: call.url });
	}
	return call.via === "client" ? new Client(call.token) : library;
}

async function make(call) {
	const count = { requests: 0 };
	try {
		return { segments: await clientOf(call).imageSegmentation(argumentsOf(call), optionsOf(call, count)), ...count };
	} catch (error) {
		const { status, requestId } = error.httpResponse ?? {};
		return { error: error.name, told: error.message, status, request_id: requestId, ...count };
	}
}

async function main() {
	const outcomes = {};
	const calls = JSON.parse(readFileSync(0, "utf8")).values();
	const makeSome = async () => {
		for (const call of calls) {
			outcomes[call.name] = await make(call);
		}
	};
	await Promise.all(Array.from({ length: AT_ONCE }, makeSome));
	process.stdout.write(JSON.stringify(outcomes));
}

main();
