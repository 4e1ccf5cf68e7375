package keymgr

// rule is what a key's state makes of an operation.
type rule uint8

const (
	fine       rule = iota
	disabled        // DisabledException: … is disabled.
	wrongState      // KMSInvalidStateException: … is pending deletion., … is pending import., … is unavailable.
	notPending      // KMSInvalidStateException: … is not pending deletion.
	ifMade          // fine for a key that was made in the token; of others as notHere
	ifImported      // fine for a key whose material is imported; of others as notHere
	notHere         // UnsupportedOperationException: the key's origin does not go with the operation
)

// stateColumns gives the order of the rules in an operation's row.
var stateColumns = [...]string{StateEnabled, StateDisabled, StatePendingDeletion, StatePendingImport, StateUnavailable}

// Rows that several operations share.
var (
	always         = &[5]rule{}
	toUse          = &[5]rule{fine, disabled, wrongState, wrongState, wrongState}
	toGrant        = &[5]rule{fine, disabled, wrongState, wrongState, fine}
	toSwitch       = &[5]rule{fine, fine, wrongState, wrongState, fine}
	toChange       = &[5]rule{fine, fine, wrongState, fine, fine}
	toCancel       = &[5]rule{notPending, notPending, fine, notPending, notPending}
	toSetRotation  = &[5]rule{ifMade, disabled, wrongState, notHere, notHere}
	toReadRotation = &[5]rule{fine, fine, fine, fine, notHere}
	toRotate       = &[5]rule{ifMade, disabled, wrongState, wrongState, notHere}
	toImport       = &[5]rule{ifImported, ifImported, wrongState, ifImported, notHere}
	toDestroy      = &[5]rule{ifMade, ifMade, wrongState, notHere, notHere}
	toDropMaterial = &[5]rule{ifImported, ifImported, ifImported, ifImported, notHere}
)

// allows is nil if the key's state allows the operation. Errors: ErrDisabled, ErrInvalidState, ErrUnsupported.
func (k *cmk) allows(operation string) error {
	row := operations[operation].states
	if row == nil {
		return fault(ErrInternal, "no rule for %s", operation)
	}
	arn := k.id.ARN()
	for i, state := range stateColumns {
		if state != k.record.State {
			continue
		}
		r := row[i]
		switch {
		case r == ifMade && k.origin() != OriginToken, r == ifImported && k.origin() != OriginExternal:
			r = notHere
		case r == ifMade, r == ifImported:
			r = fine
		}
		switch r {
		case fine:
			return nil
		case disabled:
			return fault(ErrDisabled, "%s is disabled.", arn)
		case notPending:
			return fault(ErrInvalidState, "%s is not pending deletion.", arn)
		case notHere:
			return fault(ErrUnsupported, "%s origin is %s which is not valid for this operation.", arn, k.origin())
		}
	}
	switch k.record.State {
	case StatePendingDeletion:
		return fault(ErrInvalidState, "%s is pending deletion.", arn)
	case StatePendingImport:
		return fault(ErrInvalidState, "%s is pending import.", arn)
	}
	return fault(ErrInvalidState, "%s is unavailable.", arn)
}
