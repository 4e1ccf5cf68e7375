package soft

import "errors"

// ErrVersion: the token was written in a format that this program does not
// know, probably by a newer one.
var ErrVersion = errors.New("unknown version of a soft token")
