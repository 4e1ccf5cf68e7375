package hsm

// OneByOne is a Token that knows whether it works on one call at a time, so that calls made side by side only wait for each other.
type OneByOne interface{ OneByOne() bool }
