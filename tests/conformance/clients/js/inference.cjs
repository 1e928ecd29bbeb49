/* Makes a list of calls with one version of @huggingface/inference.
 *
 * Takes the folder of that version as its argument, reads the calls as JSON from stdin and writes the outcome of each
 * to stdout, by name.
 */
"use strict";

const { readFileSync } = require("node:fs");

// Stdout is for the outcomes; some versions log there.
console.log = console.info = console.error;

const library = require(process.argv[2]);
const Client = library.InferenceClient ?? library.HfInference;
const CONCURRENCY = 4;
const HUB = "https://huggingface.co/api/models/";
const ROUTER = "https://router.huggingface.co";

const CONVERSIONS = {
	blob: (bytes, type) => new Blob([bytes], { type }),
	arrayBuffer: (bytes) => bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength),
	bytes: (bytes) => new Uint8Array(bytes),
	base64: (bytes) => bytes.toString("base64"),
};

function buildArguments(call) {
	const [kind, path, type] = call.image;
	return { ...call.arguments, [call.key]: CONVERSIONS[kind](readFileSync(path), type) };
}

function countingFetch(count) {
	return (url, init) => {
		count.requests += 1;
		return fetch(url, init);
	};
}

/* Keeps the model's name and sends the provider's requests to the gateway. */
function rewritingFetch(gateway) {
	return (url, init) => {
		if (url.startsWith(HUB)) {
			const id = url.slice(HUB.length).split("?")[0];
			const mapping = { "hf-inference": { providerId: id, status: "live", task: "image-segmentation" } };
			return Promise.resolve(Response.json({ inferenceProviderMapping: mapping }));
		}
		return fetch(url.replace(ROUTER, gateway), init);
	};
}

function buildOptions(call, count) {
	const options = { ...call.options };
	if (call.seconds) {
		options.signal = AbortSignal.timeout(1000 * call.seconds);
		options.fetch = countingFetch(count);
	}
	if (call.router) {
		options.fetch = rewritingFetch(call.router);
	}
	return options;
}

function buildClient(call) {
	if (call.via === "endpoint") {
		return new Client(call.token).endpoint(call.url);
	}
	if (call.via === "client with endpointUrl") {
		return new Client(call.token, { endpointUrl: call.url });
	}
	return call.via === "client" ? new Client(call.token) : library;
}

async function makeCall(call) {
	const count = { requests: 0 };
	try {
		return { segments: await buildClient(call).imageSegmentation(buildArguments(call), buildOptions(call, count)), ...count };
	} catch (error) {
		const { status, requestId } = error.httpResponse ?? {};
		return { error: error.name, message: error.message, status, request_id: requestId, ...count };
	}
}

async function main() {
	const outcomes = {};
	const calls = JSON.parse(readFileSync(0, "utf8")).values();
	const takeCalls = async () => {
		for (const call of calls) {
			outcomes[call.name] = await makeCall(call);
		}
	};
	await Promise.all(Array.from({ length: CONCURRENCY }, takeCalls));
	process.stdout.write(JSON.stringify(outcomes));
}

main();
