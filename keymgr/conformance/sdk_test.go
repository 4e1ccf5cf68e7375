package conformance

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/kmsfs/kmsfs/keymgr"
)

// newSDK returns AWS' SDK for Go as the identity uses it. It asks once: a test wants to see the first answer.
func newSDK(url string, k keymgr.IdentityKey) *kms.Client {
	return kms.New(kms.Options{
		BaseEndpoint: aws.String(url), Region: keymgr.Region, Retryer: aws.NopRetryer{},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: k.AccessKeyID, SecretAccessKey: k.Secret}, nil
		}),
	})
}

// sdkOperations are the operations that the SDK has, by name.
func sdkOperations(t *testing.T) map[string]reflect.Type {
	t.Helper()
	out := map[string]reflect.Type{}
	c := reflect.TypeOf(&kms.Client{})
	for i := range c.NumMethod() {
		m := c.Method(i)
		if m.Type.NumIn() < 3 || m.Type.In(2).Kind() != reflect.Pointer || m.Type.In(2).Elem().Name() != m.Name+"Input" {
			continue // Options
		}
		out[m.Name] = m.Type.In(2)
	}
	if len(out) < 54 {
		t.Fatalf("the SDK has %d operations", len(out))
	}
	return out
}

// call sends the operation that the input belongs to.
func (r *rig) call(in any) (out any, err error) {
	r.t.Helper()
	name := strings.TrimSuffix(reflect.TypeOf(in).Elem().Name(), "Input")
	ret := reflect.ValueOf(r.sdk).MethodByName(name).Call([]reflect.Value{reflect.ValueOf(r.t.Context()), reflect.ValueOf(in)})
	err, _ = ret[1].Interface().(error)
	return ret[0].Interface(), err
}

// must is call for what has to succeed.
func must[Out any](r *rig, in any) *Out {
	r.t.Helper()
	out, err := r.call(in)
	if err != nil {
		r.t.Fatal(err)
	}
	return out.(*Out)
}

// refusal is an error as the SDK sees it; zero: none.
type refusal struct {
	code, message string
	status        int
}

func (r *rig) refusal(err error) refusal {
	r.t.Helper()
	if err == nil {
		return refusal{}
	}
	var api smithy.APIError
	var response *smithyhttp.ResponseError
	if !errors.As(err, &api) || !errors.As(err, &response) {
		r.t.Fatalf("no answer of the service: %v", err)
	}
	return refusal{api.ErrorCode(), api.ErrorMessage(), response.HTTPStatusCode()}
}
