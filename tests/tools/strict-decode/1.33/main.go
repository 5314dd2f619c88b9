// strict-decode reads YAML documents on standard input as one release of Kubernetes does, and refuses what that release
// does not know: fields that do not exist, fields twice, values of another type.
//
// It prints a line per document and exits with 1 when one of them was refused. Kinds of groups named by --foreign are not
// Kubernetes' own; they are listed and left alone.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	sigs "sigs.k8s.io/yaml"
)

func main() {
	foreign := flag.String("foreign", "", "groups, divided by commas, whose kinds are not Kubernetes' own")
	flag.Parse()
	known := runtime.NewScheme()
	must(scheme.AddToScheme(known))
	must(apiextensions.AddToScheme(known))
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, known, known, json.SerializerOptions{Yaml: true, Strict: true})
	documents := yaml.NewYAMLReader(bufio.NewReader(os.Stdin))
	refused := false
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		must(err)
		line, ok := judge(document, strict, strings.Split(*foreign, ","))
		if line != "" {
			fmt.Println(line)
		}
		refused = refused || !ok
	}
	if refused {
		os.Exit(1)
	}
}

// judge says what becomes of a document, and whether that is well. A document of comments alone says nothing.
func judge(document []byte, strict runtime.Decoder, foreign []string) (string, bool) {
	var head metav1.PartialObjectMetadata
	if err := sigs.Unmarshal(document, &head); err != nil {
		return fmt.Sprintf("refused: %v", err), false
	}
	kind := head.GroupVersionKind()
	if kind.Empty() {
		var any any
		if err := sigs.Unmarshal(document, &any); err != nil || any != nil {
			return "refused: a document without a kind", false
		}
		return "", true
	}
	name := fmt.Sprintf("%s/%s %s/%s", kind.GroupVersion(), kind.Kind, head.Namespace, head.Name)
	// The core group has no name, and neither has the one entry of an empty flag.
	if kind.Group != "" && slices.Contains(foreign, kind.Group) {
		return "foreign: " + name, true
	}
	if _, _, err := strict.Decode(document, nil, nil); err != nil {
		return fmt.Sprintf("refused: %s: %v", name, err), false
	}
	return "decoded: " + name, true
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "strict-decode:", err)
		os.Exit(2)
	}
}
