// Package localhttp serves HTTP/1.1 on a Unix socket to clients that ask small questions one after the other and wait for each answer. What a request is, and what is wrong with one, is for
// net/http's parser to say, handlers are net/http's, and so is what a client sees. Nothing else is: a connection has one goroutine and no other for each request, an answer is one write, deadlines are
// set anew only when they have come near, and that a client went away is looked for where a request takes long (and ends its context).
//
// It does not know what is asked. It has no TLS, no HTTP/2, no upgrades and no answers without a length.
//
// Concurrency: a Server is used by one Serve; Shutdown and Close may come at any time.
package localhttp
