// Evaluates pods with Kubernetes' own code of the Pod Security Standards.
//
// Reads a JSON array of pods (metadata and spec), writes a JSON array with, for each, why it is forbidden at
// the level "restricted": nothing when it is allowed.
package main

import (
	"encoding/json"
	"log"
	"os"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

func main() {
	var pods []corev1.Pod
	if err := json.NewDecoder(os.Stdin).Decode(&pods); err != nil {
		log.Fatal(err)
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		log.Fatal(err)
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	forbidden := make([]string, len(pods))
	for i := range pods {
		result := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &pods[i].ObjectMeta, &pods[i].Spec))
		if !result.Allowed {
			forbidden[i] = result.ForbiddenDetail()
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(forbidden); err != nil {
		log.Fatal(err)
	}
}
