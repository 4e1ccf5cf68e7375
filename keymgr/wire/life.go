package wire

import "github.com/kmsfs/kmsfs/keymgr"

// The bodies of AWS' operations on the life of keys: deletion, rotation, tags.

// Tag is one tag.
type Tag struct{ TagKey, TagValue string }

// Tags makes the key manager's tags.
func Tags(tags []Tag) []keymgr.Tag {
	var out []keymgr.Tag
	for _, t := range tags {
		out = append(out, keymgr.Tag{Key: t.TagKey, Value: t.TagValue})
	}
	return out
}

// FromTags is the inverse of Tags; never nil.
func FromTags(tags []keymgr.Tag) []Tag {
	out := []Tag{}
	for _, t := range tags {
		out = append(out, Tag{t.Key, t.Value})
	}
	return out
}

// TagResourceRequest is the input of TagResource.
type TagResourceRequest struct {
	KeyId string
	Tags  []Tag
}

// UntagResourceRequest is the input of UntagResource.
type UntagResourceRequest struct {
	KeyId   string
	TagKeys []string
}

// ListResourceTagsResponse is the output of ListResourceTags, whose input is a ListRequest.
type ListResourceTagsResponse struct {
	Tags       []Tag
	Truncated  bool
	NextMarker string `json:",omitempty"`
}

// UpdateKeyDescriptionRequest is the input of UpdateKeyDescription.
type UpdateKeyDescriptionRequest struct {
	KeyId       string
	Description string `audit:"-"`
}

// ScheduleKeyDeletionRequest is the input of ScheduleKeyDeletion.
type ScheduleKeyDeletionRequest struct {
	KeyId               string
	PendingWindowInDays *int `json:",omitempty"`
}

// ScheduleKeyDeletionResponse is the output of ScheduleKeyDeletion.
type ScheduleKeyDeletionResponse struct {
	KeyId               string
	DeletionDate        Time
	KeyState            string
	PendingWindowInDays int
}

// EnableKeyRotationRequest is the input of EnableKeyRotation.
type EnableKeyRotationRequest struct {
	KeyId                string
	RotationPeriodInDays *int `json:",omitempty"`
}

// RotationStatusResponse is the output of GetKeyRotationStatus.
type RotationStatusResponse struct {
	KeyId                string
	KeyRotationEnabled   bool
	RotationPeriodInDays int  `json:",omitempty"`
	NextRotationDate     Time `json:",omitzero"`
}

// ListKeyRotationsRequest is the input of ListKeyRotations.
type ListKeyRotationsRequest struct {
	KeyId              string
	IncludeKeyMaterial string `json:",omitempty"`
	Limit              int    `json:",omitempty"`
	Marker             string `json:",omitempty"`
}

// ListKeyRotationsResponse is the output of ListKeyRotations.
type ListKeyRotationsResponse struct {
	Rotations  []Rotation
	Truncated  bool
	NextMarker string `json:",omitempty"`
}

// Rotation is a line of ListKeyRotations.
type Rotation struct {
	KeyId            string
	KeyMaterialId    string
	KeyMaterialState string
	RotationDate     Time   `json:",omitzero"`
	RotationType     string `json:",omitempty"`
	ImportState      string `json:",omitempty"`
	ExpirationModel  string `json:",omitempty"`
	ValidTo          Time   `json:",omitzero"`
}

// Values of Rotation.KeyMaterialState and of ListKeyRotationsRequest.IncludeKeyMaterial.
const (
	MaterialCurrent    = "CURRENT"
	MaterialNonCurrent = "NON_CURRENT"
	RotationsOnly      = "ROTATIONS_ONLY"
	AllKeyMaterial     = "ALL_KEY_MATERIAL"
)

// FromRotations makes AWS' shape of a list of rotations.
func FromRotations(l keymgr.RotationList) ListKeyRotationsResponse {
	out := ListKeyRotationsResponse{Rotations: []Rotation{}, Truncated: l.NextMarker != "", NextMarker: l.NextMarker}
	for _, r := range l.Rotations {
		state := MaterialNonCurrent
		if r.Current {
			state = MaterialCurrent
		}
		out.Rotations = append(out.Rotations, Rotation{KeyId: l.KeyID, KeyMaterialId: r.MaterialID, KeyMaterialState: state, RotationDate: Time{r.Date},
			RotationType: r.Type, ImportState: r.Import, ExpirationModel: r.Expiration, ValidTo: Time{r.ValidTo}})
	}
	return out
}

// List is the inverse of FromRotations.
func (r ListKeyRotationsResponse) List() keymgr.RotationList {
	out := keymgr.RotationList{NextMarker: r.NextMarker}
	for _, x := range r.Rotations {
		out.KeyID = x.KeyId
		out.Rotations = append(out.Rotations, keymgr.Rotation{MaterialID: x.KeyMaterialId, Current: x.KeyMaterialState == MaterialCurrent, Date: x.RotationDate.Time,
			Type: x.RotationType, Import: x.ImportState, Expiration: x.ExpirationModel, ValidTo: x.ValidTo.Time})
	}
	return out
}
