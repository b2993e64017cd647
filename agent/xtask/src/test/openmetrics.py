import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families

for family in text_string_to_metric_families(sys.stdin.read()):
    print(family.type, family.name, family.unit or "-", len(family.samples))
    for sample in family.samples:
        if sample.exemplar:
            finding = sample.exemplar.labels["finding_id"]
            print("exemplar", sample.name, finding, float(sample.exemplar.timestamp))
