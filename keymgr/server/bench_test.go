package server

import (
	"testing"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
)

// BenchmarkSocket measures calls over the socket by eight clients: DescribeKey (little but the wire), and the two that are recorded durably.
func BenchmarkSocket(b *testing.B) {
	dir := newKeyStore(b, false)
	serve(b, RunConfig{Dir: dir})
	c := client.New(keystore.SocketPath(dir), client.Options{})
	b.Cleanup(func() { _ = c.Close() })
	md, err := c.CreateKey(b.Context(), self, keymgr.CreateKeyInput{})
	if err != nil {
		b.Fatal(err)
	}
	own := keymgr.Context{"kmsfs:volume": "v", "kmsfs:zone": "1"}
	key, err := c.GenerateDataKey(b.Context(), self, keymgr.GenerateDataKeyInput{KeyID: md.KeyID, Bytes: 32, Context: own})
	if err != nil {
		b.Fatal(err)
	}
	for name, call := range map[string]func() error{
		"DescribeKey": func() error { return second(c.DescribeKey(b.Context(), self, md.KeyID)) },
		"Decrypt": func() error {
			return second(c.Decrypt(b.Context(), self, keymgr.DecryptInput{Blob: key.Blob, Context: own}))
		},
		"GenerateDataKey": func() error {
			return second(c.GenerateDataKey(b.Context(), self, keymgr.GenerateDataKeyInput{KeyID: md.KeyID, Bytes: 32, Context: own}))
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetParallelism(4) // 8 on two processors
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := call(); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
