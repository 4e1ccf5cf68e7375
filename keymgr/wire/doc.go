// Package wire is the protocol of the key manager: the bodies of requests and answers, the errors, the headers. It is AWS JSON 1.1 (POST /, the operation in
// X-Amz-Target) with AWS' names and shapes for AWS' operations, under TrentService, and our own operations beside them, under KmsfsService.
//
// It knows neither sockets nor what the operations do. Decoding is strict where leniency would let two readers see two things: duplicate
// members, invalid UTF-8, lone surrogates and deep nesting are refused, member names match exactly. Unknown members are ignored, null means absent, as in AWS.
// All functions are safe for concurrent use.
package wire
