// An operator as people write them: two of it, of which one leads, with webhooks that fill in, refuse, warn and convert.
// A Website has a ConfigMap and a Deployment of its own, a finalizer, conditions and events.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

const finalizer = "clients.test/farewell"

type reconciler struct {
	client.Client
	events events.EventRecorder
	name   string
}

func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var site Website
	if err := r.Get(ctx, request.NamespacedName, &site); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !site.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, r.farewell(ctx, &site)
	}
	if controllerutil.AddFinalizer(&site, finalizer) {
		if err := r.Update(ctx, &site); err != nil {
			return ctrl.Result{}, err
		}
	}
	text := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: site.Name, Namespace: site.Namespace}}
	if _, err := controllerutil.CreateOrUpdate(ctx, r.Client, text, func() error {
		text.Data = map[string]string{"greeting": site.Spec.Greeting}
		return controllerutil.SetControllerReference(&site, text, r.Scheme())
	}); err != nil {
		return ctrl.Result{}, err
	}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: site.Name, Namespace: site.Namespace}}
	done, err := controllerutil.CreateOrUpdate(ctx, r.Client, deployment, func() error {
		describe(&site, deployment)
		return controllerutil.SetControllerReference(&site, deployment, r.Scheme())
	})
	if err != nil {
		return ctrl.Result{}, err
	}
	if done == controllerutil.OperationResultCreated {
		r.events.Eventf(&site, deployment, corev1.EventTypeNormal, "Published", "Publish", "%s greets with %s", site.Name, site.Spec.Greeting)
	}
	before := site.DeepCopyObject().(*Website)
	site.Status.Ready, site.Status.Leader = deployment.Status.ReadyReplicas, r.name
	condition := metav1.Condition{Type: "Ready", Status: metav1.ConditionFalse, Reason: "Waiting", ObservedGeneration: site.Generation}
	if deployment.Status.ReadyReplicas == site.Spec.Replicas && deployment.Status.ObservedGeneration == deployment.Generation {
		condition.Status, condition.Reason = metav1.ConditionTrue, "Serving"
	}
	meta.SetStatusCondition(&site.Status.Conditions, condition)
	return ctrl.Result{}, r.Status().Patch(ctx, &site, client.MergeFrom(before))
}

// What was written when a Website goes, to be seen from outside.
func (r *reconciler) farewell(ctx context.Context, site *Website) error {
	note := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: site.Name + "-farewell", Namespace: site.Namespace}}
	if err := r.Create(ctx, note); client.IgnoreAlreadyExists(err) != nil {
		return err
	}
	controllerutil.RemoveFinalizer(site, finalizer)
	return r.Update(ctx, site)
}

func describe(site *Website, deployment *appsv1.Deployment) {
	labels := map[string]string{"site": site.Name}
	deployment.Spec.Replicas = &site.Spec.Replicas
	deployment.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	deployment.Spec.Template.Labels = labels
	containers := &deployment.Spec.Template.Spec.Containers
	if len(*containers) == 0 {
		*containers = []corev1.Container{{Name: "web"}}
	}
	(*containers)[0].Image = "busybox"
	(*containers)[0].ImagePullPolicy = corev1.PullIfNotPresent
	(*containers)[0].Command = []string{"sleep", "3600"}
	grace := int64(0)
	deployment.Spec.Template.Spec.TerminationGracePeriodSeconds = &grace
}

type hooks struct{}

func (hooks) Default(_ context.Context, site *Website) error {
	if site.Spec.Replicas == 0 {
		site.Spec.Replicas = 1
	}
	if site.Labels == nil {
		site.Labels = map[string]string{}
	}
	site.Labels["filled-in"] = "true"
	return nil
}

func (hooks) check(site *Website) (admission.Warnings, error) {
	if strings.Contains(site.Spec.Greeting, "goodbye") {
		return nil, fmt.Errorf("a greeting is no farewell: %q", site.Spec.Greeting)
	}
	if site.Spec.Greeting != strings.ToLower(site.Spec.Greeting) {
		return admission.Warnings{"greetings are written in small letters"}, nil
	}
	return nil, nil
}

func (h hooks) ValidateCreate(_ context.Context, site *Website) (admission.Warnings, error) {
	return h.check(site)
}

func (h hooks) ValidateUpdate(_ context.Context, _, site *Website) (admission.Warnings, error) {
	return h.check(site)
}

func (hooks) ValidateDelete(_ context.Context, site *Website) (admission.Warnings, error) {
	if site.Annotations["protected"] == "true" {
		return nil, fmt.Errorf("%s is protected", site.Name)
	}
	return nil, nil
}

func run() error {
	ctrl.SetLogger(zap.New())
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return err
	}
	addTypes(scheme)
	namespace, name := os.Getenv("NAMESPACE"), os.Getenv("NAME")
	lease, renew, retry := 6*time.Second, 4*time.Second, time.Second
	manager, err := ctrl.NewManager(ctrl.GetConfigOrDie(), ctrl.Options{
		Scheme:                  scheme,
		Cache:                   cache.Options{DefaultNamespaces: map[string]cache.Config{namespace: {}}},
		LeaderElection:          true,
		LeaderElectionID:        "operator.clients.test",
		LeaderElectionNamespace: namespace,
		LeaseDuration:           &lease,
		RenewDeadline:           &renew,
		RetryPeriod:             &retry,
		Metrics:                 metricsserver.Options{BindAddress: ":8080"},
		HealthProbeBindAddress:  ":8081",
		WebhookServer:           webhook.NewServer(webhook.Options{Port: 9443, CertDir: "/certs"}),
	})
	if err != nil {
		return err
	}
	if err := manager.AddReadyzCheck("webhook", manager.GetWebhookServer().StartedChecker()); err != nil {
		return err
	}
	if err := manager.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	r := &reconciler{Client: manager.GetClient(), events: manager.GetEventRecorder("websites"), name: name}
	if err := ctrl.NewControllerManagedBy(manager).For(&Website{}).Owns(&appsv1.Deployment{}).Owns(&corev1.ConfigMap{}).Complete(r); err != nil {
		return err
	}
	if err := ctrl.NewWebhookManagedBy(manager, &Website{}).WithDefaulter(hooks{}).WithValidator(hooks{}).Complete(); err != nil {
		return err
	}
	return manager.Start(ctrl.SetupSignalHandler())
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
