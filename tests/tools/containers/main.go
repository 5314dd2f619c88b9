// Command image-copy is the part of `skopeo copy` that the tests need, on a current containers/image: it copies an image
// from a registry into a folder if a policy.json lets it.
//
// Exit status: 0 copied, 1 the policy rejects the image, 2 anything else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"
)

func main() {
	policy := flag.String("policy", "", "the policy.json")
	registries := flag.String("registries.d", "", "the registries.d folder")
	authfile := flag.String("authfile", "", "credentials, in the form of ~/.docker/config.json")
	certificates := flag.String("cert-dir", "", "folder with the registry's authority; without it TLS is not verified")
	all := flag.Bool("all", false, "copy every image of an index")
	flag.Parse()
	if flag.NArg() != 2 || *policy == "" {
		fmt.Fprintln(os.Stderr, "usage: image-copy --policy FILE [--registries.d DIR] HOST/NAME:TAG FOLDER")
		os.Exit(2)
	}
	system := &types.SystemContext{
		RegistriesDirPath:           *registries,
		AuthFilePath:                *authfile,
		DockerCertPath:              *certificates,
		SignaturePolicyPath:         *policy,
		SystemRegistriesConfPath:    os.DevNull,
		SystemRegistriesConfDirPath: filepath.Dir(flag.Arg(1)),
		BlobInfoCacheDir:            flag.Arg(1) + ".cache",
	}
	if *certificates == "" {
		system.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
	}
	os.Exit(run(system, flag.Arg(0), flag.Arg(1), *all))
}

func run(system *types.SystemContext, image, folder string, all bool) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		var rejected signature.PolicyRequirementError
		if errors.As(err, &rejected) {
			return 1
		}
		return 2
	}
	policy, err := signature.DefaultPolicy(system)
	if err != nil {
		return fail(fmt.Errorf("policy not loaded: %w", err))
	}
	checked, err := signature.NewPolicyContext(policy)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = checked.Destroy() }()
	source, err := docker.ParseReference("//" + image)
	if err != nil {
		return fail(err)
	}
	target, err := directory.NewReference(folder)
	if err != nil {
		return fail(err)
	}
	options := &copy.Options{SourceCtx: system, RemoveSignatures: true}
	if all {
		options.ImageListSelection = copy.CopyAllImages
	}
	if _, err := copy.Image(context.Background(), checked, target, source, options); err != nil {
		return fail(fmt.Errorf("copy: %w", err))
	}
	return 0
}
