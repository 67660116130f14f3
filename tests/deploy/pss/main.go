// Evaluates pods with Kubernetes' own code of the Pod Security Standards.
//
// Reads a JSON array of pods (metadata and spec), writes a JSON array with, for each, why it is forbidden at
// a level (else "restricted") in the wording of a version (else the latest): nothing when it is allowed.
package main

import (
	"encoding/json"
	"flag"
	"log"
	"os"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

func main() {
	name := flag.String("level", string(api.LevelRestricted), "privileged, baseline or restricted")
	wording := flag.String("version", "latest", "of Kubernetes, as v1.30")
	flag.Parse()
	level, err := api.ParseLevel(*name)
	if err != nil {
		log.Fatal(err)
	}
	version, err := api.ParseVersion(*wording)
	if err != nil {
		log.Fatal(err)
	}

	var pods []corev1.Pod
	if err := json.NewDecoder(os.Stdin).Decode(&pods); err != nil {
		log.Fatal(err)
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		log.Fatal(err)
	}
	at := api.LevelVersion{Level: level, Version: version}
	forbidden := make([]string, len(pods))
	for i := range pods {
		result := policy.AggregateCheckResults(evaluator.EvaluatePod(at, &pods[i].ObjectMeta, &pods[i].Spec))
		if !result.Allowed {
			forbidden[i] = result.ForbiddenDetail()
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(forbidden); err != nil {
		log.Fatal(err)
	}
}
