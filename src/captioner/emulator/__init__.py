"""A SageMaker for one machine: AWS's API over HTTP, state on disk, every instance of a variant a real process.

``server`` puts it together by ``options``; ``front`` sends each request to the handlers here, to the S3 (``objects``)
or to moto. From a request to a process:

    control, configs, shapes    what is asked, and what AWS would refuse      describing    what is answered
    endpoints, store            states, and what is true of an endpoint       delays        how long they are seen
    guardrails, rollouts        an update's steps, and their going or not     traffic       which fleet answers
    fleet, instance, programs   variants, processes, what an image stands for
    runtime, asking             one request; beside it capture and shadow
    metrics, series, queries, expressions, alarms, watching, cloudwatch       what is counted, and who watches it

The real AWS is the model for names, states and errors; roles and quotas are not checked. Knows nothing of captions:
an instance is any program that keeps the container contract.
"""
