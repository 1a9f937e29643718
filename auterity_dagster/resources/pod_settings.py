"""Where pods that train run."""

import dagster as dg


class PodSettings(dg.Config):
    """The image, the claim of the volume that holds the data folder, and what a pod may use."""

    image: str = ""
    namespace: str = "default"
    volume_claim: str = ""
    service_account: str = "default"
    memory: str = "32Gi"
