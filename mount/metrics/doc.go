// Package metrics keeps figures about a daemon and serves them in Prometheus' form to who asks on a socket.
//
// It holds no names of files, no paths, no users and no ids of keys: labels are names of operations, errors, caches and states, from small fixed sets. What changes with each
// request is counted as it happens (Files, Keys, Audit); what something else knows already is asked when somebody scrapes (the functions of Volume and Keyd).
//
// It does not know where the figures come from, nor what a daemon is. All of it is safe for concurrent use. A daemon without metrics has none of it.
package metrics
