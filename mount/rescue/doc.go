// Package rescue holds tests alone: volumes whose metadata is damaged or gone, backups and restores, with the real commands on real mounts.
package rescue
