package server

import (
	"context"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

func putVolume(ctx context.Context, m *keymgr.Manager, r *request, in *wire.PutVolumeRequest) (none, error) {
	v, err := in.Volume.Record()
	if err != nil {
		return none{}, err
	}
	if len(in.FrontEnd) > 0 {
		if v.FrontEnd, err = blockcrypt.KeyFromBytes(in.FrontEnd); err != nil {
			return none{}, validation("FrontEnd is not a key")
		}
		defer v.FrontEnd.Wipe()
	}
	return none{}, m.PutVolume(ctx, r.by, v)
}

func getVolume(ctx context.Context, m *keymgr.Manager, r *request, in *wire.VolumeRequest) (wire.GetVolumeResponse, error) {
	id, err := wire.ParseVolumeID(in.VolumeId)
	if err != nil {
		return wire.GetVolumeResponse{}, err
	}
	v, err := m.GetVolume(ctx, r.by, id)
	return wire.GetVolumeResponse{Volume: wire.FromVolume(v)}, err
}

func listVolumes(ctx context.Context, m *keymgr.Manager, r *request, _ *struct{}) (wire.ListVolumesResponse, error) {
	list, err := m.ListVolumes(ctx, r.by)
	out := wire.ListVolumesResponse{Volumes: []wire.Volume{}}
	for _, v := range list {
		out.Volumes = append(out.Volumes, wire.FromVolume(v))
	}
	return out, err
}

func getAnchor(ctx context.Context, m *keymgr.Manager, _ *request, in *wire.VolumeRequest) (wire.AnchorResponse, error) {
	id, err := wire.ParseVolumeID(in.VolumeId)
	if err != nil {
		return wire.AnchorResponse{}, err
	}
	a, err := m.Anchor(ctx, id)
	return wire.AnchorResponse{Anchor: wire.FromAnchor(a)}, err
}

// advanceAnchor is for the front end of the volume alone.
func advanceAnchor(ctx context.Context, m *keymgr.Manager, r *request, in *wire.AnchorRequest) (none, error) {
	id, err := wire.ParseVolumeID(in.VolumeId)
	if err != nil {
		return none{}, err
	}
	if v := r.session.volume.Load(); v == nil || *v != id {
		return none{}, &keymgr.Fault{Class: keymgr.ErrAccessDenied, Message: "only the volume's front end may advance its anchor"}
	}
	a, err := in.Anchor.Anchor()
	if err != nil {
		return none{}, err
	}
	return none{}, m.AdvanceAnchor(ctx, id, a)
}

func restoreAnchor(ctx context.Context, m *keymgr.Manager, r *request, in *wire.AnchorRequest) (none, error) {
	id, err := wire.ParseVolumeID(in.VolumeId)
	if err != nil {
		return none{}, err
	}
	a, err := in.Anchor.Anchor()
	if err != nil {
		return none{}, err
	}
	return none{}, m.RestoreAnchor(ctx, r.by, id, a, in.Reason)
}

func status(ctx context.Context, s *server, _ *request) (any, error) {
	return wire.FromStatus(s.status(ctx)), nil
}

// unlock takes the key store's secret over the socket.
func unlock(ctx context.Context, s *server, r *request) (any, error) {
	var in wire.UnlockRequest
	defer wire.Wipe(&in)
	if err := wire.Decode(r.body, &in); err != nil {
		return nil, err
	}
	if len(in.Secret) == 0 {
		return nil, validation("Secret is empty")
	}
	secret, err := locked.FromBytes(in.Secret)
	if err != nil {
		return nil, err
	}
	defer secret.Close()
	return nil, s.unlock(ctx, r.by, secret, in.AcceptRestore, "Unlock", "over the socket")
}

// backupKeyStore writes a backup of the key store to a new file, as the user that keyd runs as.
func backupKeyStore(ctx context.Context, s *server, r *request) (any, error) {
	var in wire.BackupKeyStoreRequest
	if err := wire.Decode(r.body, &in); err != nil {
		return nil, err
	}
	if _, err := s.manager(); err != nil {
		return nil, err
	}
	return nil, s.store.Load().BackupFile(ctx, r.by, in.Path)
}
