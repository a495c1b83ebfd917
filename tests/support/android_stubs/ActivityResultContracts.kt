// https://developer.android.com/reference/androidx/activity/result/contract/ActivityResultContracts.RequestPermission
package androidx.activity.result.contract

abstract class ActivityResultContract<I, O>

class ActivityResultContracts {
    class RequestPermission : ActivityResultContract<String, Boolean>()
}
