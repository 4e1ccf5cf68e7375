// Package mount builds a volume's stack bottom-up and takes it down top-down: it is the one place where concrete drivers are chosen.
package mount
