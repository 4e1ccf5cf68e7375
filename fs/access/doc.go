// Package access decides what a caller may do in a zone: by the zone's policy, which it evaluates itself, and by the policies and grants of the zone's key, about which
// it asks the key manager for each user, also when the zone's key is in memory because of somebody else.
//
// It does not know FUSE, contents, or how keys are unwrapped. Nouns:
//
//	zone      what is held in memory of one: its policy, its keys' names, whether it is closed (its key disabled, the zone locked)
//	request   who asks (Requester), for what (Action), about what (Target)
//	guard     all zones of a mount; it decides
//	answer    of the key manager about one user, one zone, one right: kept until something changes there (Changed) or its time is over
//	pass      what an open file in a zone with strict revocation carries: its decision is made again when anything has changed
//
// A zone without a policy that is not closed costs a look into a map, and the record of what was done. A Guard is safe for concurrent use; decisions take no lock but for the answers.
// docs/adr/0019 says why it is so, docs/POLICY.md what it means.
package access
